"""Any of diffusers' schedulers as a sampler of any Denoiser."""

import importlib
import inspect
from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_lab.denoiser import Denoiser, Prediction
from diffusion_lab.errors import UserError
from diffusion_lab.process.schedules import log_snr

TABLE = 1000  # diffusers knows a schedule by its alpha_bar at so many times
DEFAULTS = {"timestep_spacing": "trailing", "clip_sample": False, "skip_prk_steps": True}


def scheduler(
    denoiser: Denoiser,
    noise: Tensor,
    label: Tensor | None = None,
    steps: int = 20,
    name: str = "UniPCMultistepScheduler",
    settings: dict | None = None,
    threshold: Callable | None = None,
    fresh_noise: Callable[[int], Tensor] | None = None,
    callback: Callable[[int, Tensor, Prediction], None] | None = None,
) -> Tensor:
    """Draw with `diffusers.<name>`; the arguments and the result are those of `diffusion_lab.sampling.samplers`.

    The scheduler is shown the schedule's alpha_bar at 1,000 times, chooses the times of `steps` network calls itself, and
    works on images scaled so that variance is preserved, whatever the schedule. Schedulers that add noise draw it for the
    batch as a whole, the same for the same `noise`, not by `fresh_noise`; so only the deterministic ones give image i
    whatever the batch.

    Args:
        name: of a class, for instance UniPCMultistepScheduler or DEISMultistepScheduler.
        settings: its further arguments, such as use_karras_sigmas. Without them, where it knows of such things, it starts
            at the noisy end (timestep_spacing trailing) and clips nothing (clip_sample false), as other samplers here.

    Raises:
        UserError: diffusers is not installed, or has no such scheduler or setting.
    """
    solver = _scheduler(name, settings or {}, denoiser, steps, noise.device)
    # Not init_noise_sigma, which takes the way to begin where next to nothing is left of the image.
    state = noise / solver.scale_model_input(torch.ones((), device=noise.device), solver.timesteps[0])
    own = torch.Generator().manual_seed(int(noise.double().abs().sum().item() * 1e6))
    random = {"generator": own} if "generator" in inspect.signature(solver.step).parameters else {}
    for call, timestep in enumerate(solver.timesteps):
        time = ((timestep.double() + 1) / TABLE).clamp(max=1).to(noise.dtype).expand(len(noise))
        signal_rate, noise_rate = denoiser.rates(time)
        power = torch.hypot(signal_rate, noise_rate)
        noisy = power * solver.scale_model_input(state, timestep)
        prediction = denoiser(noisy, time, label)
        if threshold:
            image = threshold(prediction.image, denoiser)
            prediction = prediction._replace(image=image, noise=(noisy - signal_rate * image) / noise_rate)
        if callback:
            callback(call, noisy, prediction)
        try:
            state = solver.step(prediction.noise, timestep, state, **random).prev_sample
        except (AssertionError, IndexError) as error:
            raise UserError(_unsuited(name, settings, denoiser)) from error
    return prediction.image  # what most schedulers end on; some stop at the schedule's clean end, noise and all


def _scheduler(name: str, settings: dict, denoiser: Denoiser, steps: int, device: torch.device):
    """The scheduler of that name, set to `steps` of the denoiser's schedule."""
    try:
        diffusers = importlib.import_module("diffusers")
    except ImportError as error:
        raise UserError("sampler=unipc and sampler=diffusers need diffusers: pip install diffusers") from error
    kind = getattr(diffusers, name, None)
    known = inspect.signature(kind.__init__).parameters if name.endswith("Scheduler") and kind else {}
    if "trained_betas" not in known:
        raise UserError(
            f"sampler.name={name} is no scheduler of diffusers {diffusers.__version__} that any schedule can be given to"
        )
    settings = {**{key: value for key, value in DEFAULTS.items() if key in known}, **settings}
    times = torch.arange(1, TABLE + 1, dtype=torch.float64, device=device) / TABLE
    alpha_bar = torch.sigmoid(log_snr(*denoiser.schedule(times))).cpu()
    betas = 1 - alpha_bar / torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])
    try:
        solver = kind(num_train_timesteps=TABLE, trained_betas=betas.numpy(), prediction_type="epsilon", **settings)
        solver.set_timesteps((steps + 1) // 2 if solver.order == 2 else steps, device=device)
    except (AssertionError, IndexError) as error:
        raise UserError(_unsuited(name, settings, denoiser)) from error
    except (TypeError, ValueError, NotImplementedError) as error:
        raise UserError(f"diffusers' {name} does not take sampler.settings={settings}: {error}") from error
    return solver


def _unsuited(name: str, settings: dict | None, denoiser: Denoiser) -> str:
    return (
        f"diffusers' {name} with sampler.settings={settings or {}} cannot follow schedule "
        f"{type(denoiser.schedule).__name__}: take another of the two, or other settings"
    )
