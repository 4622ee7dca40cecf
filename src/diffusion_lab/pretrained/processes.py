"""The forward processes of pretrained models, from the config of a diffusers scheduler: schedule, target and level."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_lab.errors import UserError
from diffusion_lab.process.discrete import Discrete
from diffusion_lab.process.schedules import Schedule
from diffusion_lab.process.targets import FlowVelocity, Image, Noise, Velocity

TARGETS = {"epsilon": Noise, "sample": Image, "v_prediction": Velocity}
LEAST_ALPHA = 1e-6  # of the last step, where a schedule of zero SNR has 0: the image is to be told from the noise


class Sigmas(Schedule):
    """Straight lines from image to noise, as `diffusion_lab.process.schedules.Flow`, up to pure noise.

    At time 1 the network is told 1 exactly; the signal rate stays a little above 0, where one estimate gives the other.

    Args:
        shift: see Flow.
    """

    def __init__(self, shift: float = 1.0):
        super().__init__()
        self.shift = shift

    def sigma(self, time: Tensor) -> Tensor:
        """What the network is told: the noise rate, before it is kept from 0 and 1."""
        return self.shift * time / (1 + (self.shift - 1) * time)

    def forward(self, time: Tensor) -> tuple[Tensor, Tensor]:
        noise_rate = self.sigma(time).clamp(1e-3, 1 - 1e-6)
        return 1 - noise_rate, noise_rate


class PlainFlowVelocity(FlowVelocity):
    """Of networks that see noisy images as they are, whatever their variance."""

    @staticmethod
    def input_scale(signal_rate: Tensor, noise_rate: Tensor) -> Tensor:
        return torch.ones_like(noise_rate)


def discrete(config: dict) -> tuple[Discrete, object, Callable]:
    """DDPM's steps: the level is the step itself.

    Args:
        config: of a scheduler; whichever it is, its betas and what the network predicts are kept under the same names.

    Raises:
        UserError: they are none that are known.
    """
    from diffusers import DDPMScheduler

    target = TARGETS.get(config.get("prediction_type", "epsilon"))
    if target is None:
        raise UserError(f"model.path: its scheduler's prediction_type {config['prediction_type']} is not known")
    keys = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")
    try:
        betas = DDPMScheduler(**{key: config[key] for key in keys if key in config}).betas
    except (NotImplementedError, TypeError, ValueError) as error:
        raise UserError(f"model.path: its scheduler's betas are not known ({error})") from error
    schedule = Discrete(betas.double().clamp(max=1 - LEAST_ALPHA))
    return schedule, target(), lambda time, signal_rate, noise_rate: schedule.step(time).to(time.dtype)


def flow(config: dict, tokens: int) -> tuple[Sigmas, object, Callable]:
    """Flow matching: the level is sigma, as so many thousandths.

    Args:
        config: of a FlowMatchEulerDiscreteScheduler.
        tokens: that the network makes of an image, by which some shift the schedule (arXiv:2403.03206, sec. 5.3.2).
    """
    shift = config.get("shift", 1.0)
    if config.get("use_dynamic_shifting"):
        base, most = (config.get(f"{end}_image_seq_len", default) for end, default in (("base", 256), ("max", 4096)))
        low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
        mu = low + (high - low) * (tokens - base) / (most - base)
        shift = math.exp(mu) if config.get("time_shift_type", "exponential") == "exponential" else mu
    schedule = Sigmas(shift)
    count = config.get("num_train_timesteps", 1000)
    return schedule, PlainFlowVelocity(), lambda time, signal_rate, noise_rate: count * schedule.sigma(time)
