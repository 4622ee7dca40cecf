"""A Denoiser estimates the clean image and the noise in a noisy image: all that samplers, metrics and edits know."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diffusion_lab.conditions import Classes
from diffusion_lab.errors import UserError
from diffusion_lab.networks.embeddings import ClassEmbedding, Sinusoid
from diffusion_lab.spaces.space import Space


class Prediction(NamedTuple):
    """Two estimates (B, C, H, W), tied by noisy = signal_rate * image + noise_rate * noise.

    `fraction` (B, C, H, W) is where the variance of a step lies between the smallest (0) and the largest (1), see
    `diffusion_lab.process.posterior`; None where the network does not predict it.
    """

    image: Tensor
    noise: Tensor
    fraction: Tensor | None = None


class NoisyModel(nn.Module):
    """What reads noisy images: it knows how they become noisy, the space they live in, and what their labels mean.

    Args:
        schedule: time (B,) in [0, 1] to (signal_rate, noise_rate), each (B,); time 0 is the clean end, 1 the noisy one.
        space: see `diffusion_lab.spaces`.
        conditions: the table that labels are rows of; None: there are no labels.
    """

    def __init__(self, schedule: nn.Module, space: Space, conditions: Classes | None = None):
        super().__init__()
        self.schedule = schedule
        self.space = space
        self.conditions = Classes() if conditions is None else conditions

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image in the model's space."""
        return self.space.shape

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return next((tensor.device for tensor in (*self.parameters(), *self.buffers())), torch.device("cpu"))

    def rates(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """Signal and noise rate of each image, (B, 1, 1, 1)."""
        signal_rate, noise_rate = self.schedule(time)
        return signal_rate.view(-1, 1, 1, 1), noise_rate.view(-1, 1, 1, 1)

    def noisy(self, image: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """The forward process: images (B, C, H, W) as noisy as at `time` (B,)."""
        signal_rate, noise_rate = self.rates(time)
        return signal_rate * image + noise_rate * noise

    def sees_as(self, other: "NoisyModel") -> bool:
        """Whether both know the same noise over the same images, so that one can read what the other does."""
        time = torch.linspace(0, 1, 11)
        mine, theirs = ((*model.schedule(time.to(model.device)), *(model.space.bounds or ())) for model in (self, other))
        pairs = list(zip(mine, theirs, strict=False))
        autoencoders = [getattr(model.space, "sha256", None) for model in (self, other)]
        same = self.shape == other.shape and len(mine) == len(theirs) and autoencoders[0] == autoencoders[1]
        return same and all(torch.allclose(a.cpu(), b.cpu(), atol=1e-3) for a, b in pairs)


class Denoiser(NoisyModel):
    """The base of all denoisers, whatever their estimates come from."""

    made_by = "train.py"

    def forward(self, noisy: Tensor, time: Tensor, label: Tensor | None = None) -> Prediction:
        """Estimate image and noise.

        Args:
            noisy: (B, C, H, W) in the denoiser's space.
            time: (B,) in [0, 1].
            label: (B,) int64, rows of `conditions`, -1 for none; or None.
        """
        raise NotImplementedError

    @property
    def innermost(self) -> "Denoiser":
        """The denoiser whose calls cost something: itself, or what it is wrapped around."""
        return self

    def shown(self, images: Tensor) -> Tensor:
        """What lies beside noisy images (B, ...), as the innermost denoiser is to see it: perhaps viewed otherwise, and
        several for each."""
        return images

    def of_image(self, image: Tensor, noisy: Tensor, time: Tensor, fraction: Tensor | None = None) -> Prediction:
        """The prediction that has this image estimate; the noise is what is left of `noisy`."""
        signal_rate, noise_rate = self.rates(time)
        return Prediction(image, (noisy - signal_rate * image) / noise_rate, fraction)


class NetworkDenoiser(Denoiser):
    """A network with the schedule and target it was trained for.

    Args:
        network: `network(noisy, level, label)` with noisy (B, C, H, W), level (B,), label (B,) int64 or None; it gives
            (B, C, H, W), or (B, 2 C, H, W) if it also predicts the variance of a step.
        schedule, space, conditions: of any NoisyModel.
        target: what the network's output means, see `diffusion_lab.process.targets`.
        level: the number (B,) that tells the network the noise level, see `diffusion_lab.process.levels`.
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: nn.Module,
        target: object,
        level: Callable,
        space: Space,
        conditions: Classes | None = None,
    ):
        super().__init__(schedule, space, conditions)
        self.network = network
        self.target = target
        self.level = level

    def output(
        self, noisy: Tensor, time: Tensor, label: Tensor | None = None, augmented: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The network's output for the target (B, C, H, W), as precise as `noisy`, and the variance's fraction or None.

        augmented (B, numbers) tells it what was done to the images, see `diffusion_lab.training.augmentation`.
        """
        signal_rate, noise_rate = self.rates(time)
        level = self.level(time, signal_rate.flatten(), noise_rate.flatten())
        shown = {} if augmented is None else {"augmented": augmented}  # which few networks can be told
        output = self.network(self.target.input_scale(signal_rate, noise_rate) * noisy, level, label, **shown)
        output = output.to(noisy.dtype)
        if output.shape[1] == noisy.shape[1]:
            return output, None
        output, fraction = output.chunk(2, dim=1)
        return output, (fraction + 1) / 2

    def forward(self, noisy: Tensor, time: Tensor, label: Tensor | None = None) -> Prediction:
        output, fraction = self.output(noisy, time, label)
        return Prediction(*self.target.solve(output, noisy, *self.rates(time)), fraction)


class ScaledDenoiser(NetworkDenoiser):
    """A network denoiser that takes the scale of guidance as an input, so that a guided estimate is one call (Meng et al.
    2023, arXiv:2210.03142, sec. 3.1).

    The scale's embedding is added to the class's, which every network adds to that of the noise level. It starts as nothing:
    before training, the estimates are the network's own.

    Args:
        network, schedule, target, level, space, conditions: of any NetworkDenoiser.
        scales: the lowest and the highest that it learns.

    Raises:
        UserError: the network has no classes.
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: nn.Module,
        target: object,
        level: Callable,
        space: Space,
        conditions: Classes | None = None,
        scales: tuple[float, float] = (1.0, 4.0),
    ):
        super().__init__(network, schedule, target, level, space, conditions)
        self.scales = tuple(scales)
        width = self._classes.embedding_dim
        self.embedding = nn.Sequential(Sinusoid(16, 0.05, 2.0), nn.Linear(32, width), nn.SiLU(), nn.Linear(width, width))
        for parameter in self.embedding[-1].parameters():
            nn.init.zeros_(parameter)

    @property
    def _classes(self) -> ClassEmbedding:
        found = next((module for module in self.network.modules() if isinstance(module, ClassEmbedding)), None)
        if found is None:
            raise UserError("guidance is towards a label: take a network with labels, and a data set that has them")
        return found

    def output(
        self,
        noisy: Tensor,
        time: Tensor,
        label: Tensor | None = None,
        augmented: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """As of any NetworkDenoiser; with a scale of guidance (B,), by default 1."""
        added = self.embedding(torch.ones_like(time) if scale is None else scale)
        hook = self._classes.register_forward_hook(lambda module, arguments, vectors: vectors + added)
        try:
            return super().output(noisy, time, label, augmented)
        finally:
            hook.remove()

    def forward(self, noisy: Tensor, time: Tensor, label: Tensor | None = None, scale: Tensor | None = None) -> Prediction:
        output, fraction = self.output(noisy, time, label, scale=scale)
        return Prediction(*self.target.solve(output, noisy, *self.rates(time)), fraction)


class DenoiserAround(Denoiser):
    """What guidance and edits are made of: a denoiser around `denoiser`, on its schedule and in its space.

    Its forward calls `self.denoiser` and returns other estimates, tied in the same way.
    """

    def __init__(self, denoiser: Denoiser):
        super().__init__(denoiser.schedule, denoiser.space, denoiser.conditions)
        self.denoiser = denoiser
        self.train(denoiser.training)

    @property
    def innermost(self) -> Denoiser:
        return self.denoiser.innermost

    def shown(self, images: Tensor) -> Tensor:
        return self.denoiser.shown(images)
