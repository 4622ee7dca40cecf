"""The autoencoders of diffusers, behind the interface of `diffusion_lab.networks.autoencoder`."""

import math

import torch
from torch import Tensor, nn

from diffusion_lab.errors import UserError
from diffusion_lab.networks.sizes import check_size
from diffusion_lab.sizes import Size

KINDS = ("AutoencoderKL", "AutoencoderTiny", "AutoencoderDC")


class DiffusersAutoencoder(nn.Module):
    """AutoencoderKL, AutoencoderTiny or AutoencoderDC; its latents shifted and scaled as its config says. Needs diffusers.

    Args:
        kind: which of them.
        channels: of the images.
        image_size: side of the square in pixels, or (height, width), a multiple of its factor.
        settings: its others, as in a model's config.json.

    Raises:
        UserError: diffusers is missing, or refuses the settings; or image_size does not suit them.
    """

    def __init__(self, kind: str, channels: int, image_size: Size, **settings):
        super().__init__()
        if kind not in KINDS:
            raise UserError(f"network.kind={kind} must be one of {', '.join(KINDS)}")
        try:
            import diffusers
        except ImportError as error:
            raise UserError(f"{kind} needs the package diffusers: pip install diffusers") from error
        shape = {"in_channels": channels}
        if kind != "AutoencoderDC":
            shape["out_channels"] = channels
        try:
            self.autoencoder = getattr(diffusers, kind)(**shape, **settings)
        except (TypeError, ValueError) as error:
            raise UserError(f"network.kind={kind}, in its settings: {' '.join(str(error).split())}") from error
        config, self.channels = self.autoencoder.config, channels
        self.latent_channels = config["latent_channels"]
        self.scale, self.shift = config["scaling_factor"], config.get("shift_factor") or 0.0
        self.variational = kind == "AutoencoderKL"
        widths = config["block_out_channels" if kind == "AutoencoderKL" else "encoder_block_out_channels"]
        self.factor = 2 ** (len(widths) - 1)
        check_size(image_size, self.factor, kind)

    def moments(self, images: Tensor) -> Tensor:
        """Means, and log variances of an AutoencoderKL, of images (B, C, H, W): of scaled latents."""
        encoded = self.autoencoder.encode(images)
        if not self.variational:
            latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent
            return (latents - self.shift) * self.scale
        found = encoded.latent_dist
        return torch.cat([(found.mean - self.shift) * self.scale, found.logvar + 2 * math.log(abs(self.scale))], 1)

    def decode(self, latents: Tensor) -> Tensor:
        """Images (B, C, H, W) of scaled latents."""
        return self.autoencoder.decode(latents / self.scale + self.shift).sample
