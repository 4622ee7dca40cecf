"""Pretrained networks behind the interface of the others, and autoencoders behind that of a space."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Unmoved:
    """A module that accelerate moves to the GPU and back itself: hidden from the module that it belongs to, whose `to` must
    not."""

    def __init__(self, module: nn.Module):
        self.module = module

    def __call__(self, *arguments, **named) -> Any:
        return self.module(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)


class Pretrained(nn.Module):
    """A network of diffusers with what its labels become.

    Args:
        network: of diffusers, or an Unmoved one.
        call: see `diffusion_lab.pretrained.families`.
        tables: what the rows of conditions become, a row each, and a last one for no condition.
    """

    def __init__(self, network: nn.Module | Unmoved, call: Callable, tables: dict[str, Tensor]):
        super().__init__()
        self.network = network
        self.call = call
        self.tables = list(tables)
        self.beside: dict[str, Tensor] = {}  # what else it takes for each image, or for each of a part of a batch in turn
        for name, table in tables.items():
            self.register_buffer(f"{name}_of_rows", table, persistent=False)

    def forward(self, noisy: Tensor, level: Tensor, label: Tensor | None = None) -> Tensor:
        """noisy (B, C, H, W), level (B,), label (B,) int64 with -1 for none, or None.

        Returns (B, C, H, W), or (B, 2 C, H, W) where it predicts a variance too.
        """
        rows = torch.full_like(level, -1, dtype=torch.int64) if label is None else label  # the last row is that of none
        told = {name: getattr(self, f"{name}_of_rows")[rows] for name in self.tables}
        told |= {name: each.repeat(len(noisy) // len(each), *[1] * (each.ndim - 1)) for name, each in self.beside.items()}
        dtype = self.network.dtype
        told = {name: row.to(dtype) if row.is_floating_point() else row for name, row in told.items()}
        return self.call(self.network, noisy.to(dtype), level, **told)


class Autoencoder(nn.Module):
    """An autoencoder of diffusers, with the mean of what it encodes to.

    Args:
        autoencoder: an AutoencoderKL or VQModel, or an Unmoved one.
    """

    def __init__(self, autoencoder: nn.Module | Unmoved):
        super().__init__()
        self.autoencoder = autoencoder

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) from -1 to 1 to latents."""
        encoded = self.autoencoder.encode(images.to(self.autoencoder.dtype))
        return encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to images from about -1 to 1."""
        return self.autoencoder.decode(latents.to(self.autoencoder.dtype), return_dict=False)[0]
