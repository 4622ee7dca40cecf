"""What an autoencoder makes of pixels: fewer numbers, in which each stands for a patch."""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from diffusion_lab.errors import UserError
from diffusion_lab.sizes import Size
from diffusion_lab.spaces.space import Space

AT_ONCE = 64  # images encoded or decoded


class Latents(Space):
    """(autoencoder.encode(pixels) - shift) * scale (Rombach et al. 2022, arXiv:2112.10752, sec. 3.1 and appendix G).

    No latent has bounds of its own, and none is a pixel: to flip, blur or average latents is not to do so to the image.

    Args:
        autoencoder: `encode(images)` gives latents (B, channels, size, size) of images (B, 3, H, W) from -1 to 1;
            `decode(latents)` such images.
        channels, size: of the latents.
        factor: pixels a side of the patch that a latent stands for, so that H = W = factor * size.
        scale, shift: that give latents about zero mean and unit variance.
    """

    def __init__(
        self, autoencoder: nn.Module, channels: int, size: Size, factor: int, scale: float = 1.0, shift: float = 0.0
    ):
        super().__init__(channels, size)
        self.autoencoder = autoencoder
        self.factor, self.scale, self.shift = factor, scale, shift

    @property
    def pixel_shape(self) -> tuple[int, int, int]:
        _, height, width = self.shape
        return 3, self.factor * height, self.factor * width

    def encode(self, pixels: Tensor) -> Tensor:
        images = (2 * (part.float() / 255) - 1 for part in pixels.split(1))  # one by one: large images take much memory
        return torch.cat([(self.autoencoder.encode(image).float() - self.shift) * self.scale for image in images])

    def decode(self, images: Tensor) -> Tensor:
        decoded = [self.autoencoder.decode(latent.float() / self.scale + self.shift) for latent in images.split(1)]
        return (torch.cat(decoded).float() / 2 + 0.5).clamp(0, 1)


class MeasuredLatents(Latents):
    """Latents of zero mean and unit variance per channel, as measured on the training images. Training sees draws from what
    a variational autoencoder makes of an image, all else their mean.

    The autoencoder is frozen, and a part of every checkpoint.

    Args:
        autoencoder: a network, see `diffusion_lab.networks.autoencoder`, whose weights come later.
        channels, size: of the latents.
        sha256: of its weights, see `fingerprint`; None: they are not looked at.
        sigma_data: standard deviation of the latents, about: what EDM's parts are told.
    """

    def __init__(
        self, autoencoder: nn.Module, channels: int, size: Size, sha256: str | None = None, sigma_data: float = 1.0
    ):
        super().__init__(autoencoder, channels, size, autoencoder.factor)
        self.autoencoder.eval().requires_grad_(False)
        self.sha256, self.sigma_data = sha256, sigma_data
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))
        self.register_load_state_dict_post_hook(_look_at_the_autoencoder)

    @property
    def pixel_shape(self) -> tuple[int, int, int]:
        _, height, width = self.shape
        return self.autoencoder.channels, self.factor * height, self.factor * width

    @property
    def units(self) -> str:
        """What errors are in: latents of this autoencoder."""
        return f"latents {str(self.sha256)[:8]}"

    @property
    def numbers(self) -> int:
        """That are kept for a latent of an image: channels of `moments`."""
        return self.shape[0] * (2 if self.autoencoder.variational else 1)

    def train(self, mode: bool = True) -> "MeasuredLatents":
        super().train(mode)
        self.autoencoder.eval()
        return self

    @torch.no_grad()
    def moments(self, pixels: Tensor) -> Tensor:
        """What the autoencoder makes of uint8 pixels (B, C, H, W): (B, numbers, h, w); of what is encoded already, that."""
        if pixels.is_floating_point():
            return pixels[:, : self.numbers]
        with torch.autocast(pixels.device.type, enabled=False):
            return torch.cat([self.autoencoder.moments(2 * (part.float() / 255) - 1) for part in pixels.split(AT_ONCE)])

    def encode(self, pixels: Tensor) -> Tensor:
        """uint8 pixels (B, C, H, W), or their moments, to latents (B, channels, h, w)."""
        moments = self.moments(pixels)
        latents, deviation = mean_of(moments, self.shape[0]), deviation_of(moments, self.shape[0])
        if self.training and deviation is not None:
            latents = latents + deviation * torch.randn_like(deviation)
        return (latents - self.mean) / self.std

    def decode(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            latents = images.float() * self.std + self.mean
            decoded = torch.cat([self.autoencoder.decode(part) for part in latents.split(AT_ONCE)])
        return (decoded / 2 + 0.5).clamp(0, 1)

    def measure(self, batches: Iterable[Tensor]) -> None:
        """Set mean and std to those of what training sees of uint8 pixels (B, C, H, W), or of their moments."""
        total, count = torch.zeros(2, self.shape[0], dtype=torch.float64), 0
        for pixels in batches:
            moments = self.moments(pixels)
            mean, deviation = mean_of(moments, self.shape[0]).double(), deviation_of(moments, self.shape[0])
            square = mean.square() + (0 if deviation is None else deviation.double().square())
            total += torch.stack([values.transpose(0, 1).flatten(1).sum(1).cpu() for values in (mean, square)])
            count += mean[:, 0].numel()
        mean, square = total / count
        std = (square - mean**2).clamp(min=0).sqrt()
        self.mean.copy_(mean.view(-1, 1, 1))
        self.std.copy_(torch.where(std > 0, std, 1.0).view(-1, 1, 1))


def fingerprint(autoencoder: nn.Module) -> str:
    """The SHA-256 of its weights."""
    digest = hashlib.sha256()
    for name, weights in sorted(autoencoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(weights.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _look_at_the_autoencoder(space: MeasuredLatents, _) -> None:
    """Raise UserError where the autoencoder that was loaded with a model is not the one that the model was trained with."""
    if space.sha256 and fingerprint(space.autoencoder) != space.sha256:
        raise UserError(
            f"the checkpoint holds another autoencoder than that of its latents, whose SHA-256 begins {space.sha256[:9]}"
        )


def mean_of(moments: Tensor, channels: int) -> Tensor:
    """The means (B, channels, h, w) of moments: those, or those and log variances."""
    return moments[:, :channels]


def deviation_of(moments: Tensor, channels: int) -> Tensor | None:
    """The standard deviations (B, channels, h, w) of moments; None where they hold none."""
    if moments.shape[1] == channels:
        return None
    return (0.5 * moments[:, channels:].clamp(-30, 20)).exp()
