"""Whole trajectories against diffusers' schedulers: the same alpha_bar, the same stand-in for a network, float64."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from diffusion_lab.denoiser import NetworkDenoiser
from diffusion_lab.errors import UserError
from diffusion_lab.process import levels
from diffusion_lab.process.discrete import Discrete, linear
from diffusion_lab.process.targets import Image, Noise
from diffusion_lab.sampling.diffusers_schedulers import scheduler
from diffusion_lab.sampling.draw import NetworkCalls
from diffusion_lab.sampling.samplers import ddim, ddpm, dpm_solver, euler, heun
from diffusion_lab.spaces.pixels import Pixels

diffusers = pytest.importorskip("diffusers")
ALPHA_BAR = (1 - linear()).cumprod(0)
STEPS = 20


class Wave(nn.Module):
    """A smooth noise estimate that depends on every pixel, its neighbours and the step."""

    def forward(self, noisy, level, label=None):
        step = (1000 * level - 1e-3).ceil() - 1  # what `Discrete` makes of a time
        phase = (step / 300).view(-1, 1, 1, 1)
        return 0.8 * noisy + 0.3 * torch.sin(2 * noisy + phase) + 0.1 * noisy.roll(1, -1)


NETWORK = Wave()


def ours(sampler, timesteps):
    """The states before each call, and the result."""
    denoiser = NetworkDenoiser(NETWORK, Discrete(linear()), Noise(), levels.time, Pixels(1, 4))
    states = []

    def grid(schedule, steps, device):
        return (torch.as_tensor(np.array(timesteps)).double() + 0.5) / 1000

    result = sampler(
        denoiser,
        start(),
        steps=2 * len(timesteps) - 1 if sampler is heun else len(timesteps),
        times=grid,
        fresh_noise=lambda call: fresh()[call],
        callback=lambda call, noisy, prediction: states.append(noisy),
    )
    return torch.stack([*states, result])


def start():
    return torch.randn(3, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def fresh():
    return torch.randn(STEPS, 3, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def theirs(solver, monkeypatch, calls=STEPS):
    """The states before each call in variance-preserving scale, the result, and the timesteps."""
    solver.alphas_cumprod = ALPHA_BAR
    solver.set_timesteps(calls)
    if hasattr(solver, "sigmas"):  # kept in float32: taken again in double precision
        sigmas = ((1 - ALPHA_BAR) / ALPHA_BAR).sqrt()[solver.timesteps.long()]
        solver.sigmas = torch.cat([sigmas, torch.zeros(1, dtype=torch.float64)])
        if isinstance(solver, diffusers.HeunDiscreteScheduler):
            pairs = ((1 - ALPHA_BAR) / ALPHA_BAR).sqrt()[solver.timesteps[::2].long()]
            solver.sigmas = torch.cat([pairs[:1], pairs[1:].repeat_interleave(2), torch.zeros(1, dtype=torch.float64)])
    state = start()
    if solver.init_noise_sigma != 1:
        state = state * (solver.sigmas[0] ** 2 + 1).sqrt()  # a noisy image's strength, as ours: theirs leaves out the image
    states, draws = [], iter(fresh())
    for name in ("scheduling_ddim", "scheduling_ddpm", "scheduling_dpmsolver_multistep"):
        module = getattr(diffusers.schedulers, name)
        monkeypatch.setattr(module, "randn_tensor", lambda *args, **kwargs: next(draws), raising=False)
    for timestep in solver.timesteps:
        noisy = solver.scale_model_input(state, timestep)
        states.append(noisy)
        noise = NETWORK(noisy, (timestep.double().view(1) + 0.5) / 1000)
        extra = {"eta": solver.eta} if isinstance(solver, diffusers.DDIMScheduler) else {}
        state = solver.step(noise, timestep, state, **extra).prev_sample
    return torch.stack([*states, state])


def ddim_of(eta):
    solver = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    solver.eta = eta
    return solver


MULTISTEP = {"timestep_spacing": "trailing", "lower_order_final": False, "final_sigmas_type": "zero"}
CASES = {
    "ddim": (ddim, lambda: ddim_of(0.0)),
    "ddim_eta_1": (partial(ddim, eta=1.0), lambda: ddim_of(1.0)),
    "ddpm_small": (ddpm, lambda: diffusers.DDPMScheduler(clip_sample=False)),
    "ddpm_large": (
        partial(ddpm, variance="large"),
        lambda: diffusers.DDPMScheduler(clip_sample=False, variance_type="fixed_large"),
    ),
    "euler": (euler, lambda: diffusers.EulerDiscreteScheduler(timestep_spacing="trailing")),
    "heun": (heun, lambda: diffusers.HeunDiscreteScheduler(beta_start=1e-4, beta_end=0.02, timestep_spacing="trailing")),
    "dpmpp_2m": (dpm_solver, lambda: diffusers.DPMSolverMultistepScheduler(**MULTISTEP)),
    "dpmpp_3m": (partial(dpm_solver, order=3), lambda: diffusers.DPMSolverMultistepScheduler(solver_order=3, **MULTISTEP)),
    "dpmpp_2m_sde": (
        partial(dpm_solver, eta=1.0),
        lambda: diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", **MULTISTEP),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_trajectories_agree(case, monkeypatch):
    sampler, make = CASES[case]
    solver = make()
    expected = theirs(solver, monkeypatch)
    timesteps = solver.timesteps[::2] if sampler is heun else solver.timesteps
    found = ours(sampler, timesteps.tolist())
    assert found.shape == expected.shape
    scale = expected.abs().amax(dim=(1, 2, 3, 4), keepdim=True)
    assert ((found - expected).abs() / scale).max().item() < 1e-6
    assert (expected[0] - expected[-1]).abs().max() > 0.1


class Certain(nn.Module):
    """Knows the image: 2.5 everywhere, beyond what schedulers clip to by default."""

    def forward(self, noisy, level, label=None):
        return torch.full_like(noisy, 2.5)


@pytest.mark.parametrize(
    "name", ["DDIMScheduler", "DDPMScheduler", "HeunDiscreteScheduler", "PNDMScheduler", "EulerDiscreteScheduler"]
)
@pytest.mark.parametrize("steps", [9, 10])
def test_the_adapter_clips_nothing_and_makes_the_calls_it_is_given(name, steps):
    denoiser = NetworkDenoiser(Certain(), Discrete(linear()), Image(), levels.time, Pixels(1, 4))
    with NetworkCalls(denoiser) as calls:
        drawn = scheduler(denoiser, start(), steps=steps, name=name)
    torch.testing.assert_close(drawn, torch.full_like(drawn, 2.5), atol=0.1, rtol=0)
    assert steps - 1 <= calls.count / len(drawn) <= steps + 1  # PNDM makes its second call twice


def test_the_adapter_repeats_the_noise_of_stochastic_schedulers():
    denoiser = NetworkDenoiser(NETWORK, Discrete(linear()), Noise(), levels.time, Pixels(1, 4))
    drawn = [scheduler(denoiser, start(), steps=5, name="EulerAncestralDiscreteScheduler") for _ in range(2)]
    torch.testing.assert_close(*drawn, rtol=0, atol=0)
    assert (scheduler(denoiser, start() + 0.1, steps=5, name="EulerAncestralDiscreteScheduler") - drawn[0]).std() > 0.1


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("NoScheduler", {}, "sampler.name=NoScheduler is no scheduler"),
        ("UniPCMultistepScheduler", {"solver_type": "none"}, "sampler.settings"),
        ("DDIMScheduler", {"timestep_spacing": "sideways"}, "sampler.settings"),
    ],
)
def test_the_adapter_names_what_diffusers_has_not(name, settings, message):
    denoiser = NetworkDenoiser(NETWORK, Discrete(linear()), Noise(), levels.time, Pixels(1, 4))
    with pytest.raises(UserError, match=message):
        scheduler(denoiser, start(), name=name, settings=settings)


def test_the_adapter_draws_what_diffusers_own_loop_draws():
    """UniPC over DDPM's schedule: what the library's documentation does by hand, in float64."""
    solver = diffusers.UniPCMultistepScheduler(trained_betas=linear().numpy(), timestep_spacing="trailing")
    solver.set_timesteps(10)
    state = start()
    for timestep in solver.timesteps:
        state = solver.step(NETWORK(state, (timestep.double().view(1) + 0.5) / 1000), timestep, state).prev_sample
    denoiser = NetworkDenoiser(NETWORK, Discrete(linear()), Noise(), levels.time, Pixels(1, 4))
    drawn = scheduler(denoiser, start(), steps=10, settings={"timestep_spacing": "trailing"})
    torch.testing.assert_close(drawn, state, rtol=1e-5, atol=1e-5)
