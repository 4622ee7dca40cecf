"""One step of a denoiser as a graph of tensors, and the comparison of what was made of that graph with the denoiser."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from diffusion_lab.denoiser import Denoiser
from diffusion_lab.errors import UserError
from diffusion_lab.process.seeds import noise_of_images

TOLERANCE = 1e-3
TIMES = (1.0, 0.8, 0.6, 0.4, 0.2, 0.05, 0.0)
OUTPUTS = ("image", "noise")


class Step(nn.Module):
    """noisy (B, C, H, W), time (B,) and, where there are labels, label (B,) int64, -1 for none, to image and noise."""

    inputs: tuple[str, ...] = ("noisy", "time", "label")

    def __init__(self, denoiser: Denoiser):
        super().__init__()
        self.denoiser = denoiser
        self.inputs = self.inputs if len(denoiser.conditions) else Step.inputs[:2]

    def forward(self, noisy: Tensor, time: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        prediction = self.denoiser(noisy, time, label)
        return prediction.image, prediction.noise


class GuidedStep(Step):
    """The same with scale (B,) as a fourth input: unconditional + scale * (conditional - unconditional), both in one batch
    of twice the size (Ho and Salimans 2022, arXiv:2207.12598, eq. 6). Where the scale is 1 it is the conditional estimate,
    to the bit."""

    inputs = ("noisy", "time", "label", "scale")

    def forward(self, noisy: Tensor, time: Tensor, label: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        count, scale = noisy.shape[0], scale.view(-1, 1, 1, 1)
        labels = torch.cat([label, torch.full_like(label, -1)])
        both = self.denoiser(torch.cat([noisy, noisy]), torch.cat([time, time]), labels)
        image, noise = (_guided(part[:count], part[count:], scale) for part in both[:2])
        return image, noise


def _guided(conditional: Tensor, plain: Tensor, scale: Tensor) -> Tensor:
    return torch.where(scale == 1, conditional, plain + scale * (conditional - plain))


def step_of(denoiser: Denoiser) -> Step:
    """The step with all inputs that make sense for `denoiser`."""
    return GuidedStep(denoiser) if len(denoiser.conditions) else Step(denoiser)


def example(step: Step, time: float, count: int = 3) -> tuple[Tensor, ...]:
    """Inputs of a step: noise as strong as at `time`; a first, a last and no label; scales 1, 3 and 0."""
    denoiser = step.denoiser
    times = torch.full((count,), time)
    noisy = torch.hypot(*denoiser.rates(times)) * noise_of_images(0, range(count), denoiser.shape)
    labels = torch.tensor([0, len(denoiser.conditions) - 1, -1])[torch.arange(count) % 3]
    scales = torch.tensor([1.0, 3.0, 0.0])[torch.arange(count) % 3]
    return (noisy, times, labels, scales)[: len(step.inputs)]


@torch.no_grad()
def largest_difference(
    step: Step,
    run: Callable[..., Sequence[Tensor]],
    what: str,
    tolerance: float = TOLERANCE,
    times: Sequence[float] = TIMES,
    advice: str = "Take another format, or another version of torch",
) -> float:
    """How far `run`, called as `step` is, is from it over several times, in units of the network's output.

    An estimate that is an amplified output, as the image is at the noisy end of a network that predicts noise, may be as
    much further off as that is amplified.

    Raises:
        UserError: by more than `tolerance`, or by no number; the message begins with `what` and ends with `advice`.
    """
    worst = 0.0
    for time in times:
        inputs = example(step, time)
        wanted, given = step(*inputs), run(*inputs)
        for name, ours, theirs, gain in zip(OUTPUTS, wanted, given, _gains(step.denoiser, time), strict=True):
            difference = (ours - theirs).abs().max().item() / gain
            if not difference <= tolerance:
                raise UserError(
                    f"{what} differs from torch by {difference:.2g} in the {name} at time {time:g}, more than "
                    f"{tolerance:g}: nothing was written. {advice}"
                )
            worst = max(worst, difference)
    return worst


def _gains(denoiser: Denoiser, time: float) -> tuple[float, float]:
    """How an error of the network's output shows in the image and in the noise, each at least 1."""
    rates = denoiser.rates(torch.full((1,), time))
    target = getattr(denoiser, "target", None)
    gain = 1.0 if target is None else target.gain(*rates).item()
    return max(1.0, gain), max(1.0, gain * (rates[0] / rates[1]).item())
