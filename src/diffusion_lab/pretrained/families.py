"""The families of pretrained pipelines: what each calls its network with, and what it makes of prompts.

A family's `call` takes (network, noisy, step, ...) with noisy (B, C, H, W) and step (B,), the number that tells the network
the noise level, and returns the network's output; what else it takes are rows of the tables that its `tables` gives.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_lab.pretrained.folders import PipelineFolder

Tables = dict[str, Tensor]


@dataclass(frozen=True)
class Family:
    """What one kind of pipeline needs.

    Attributes:
        title: what it is called.
        network: the part that denoises.
        call: see above.
        tables: (pipeline, texts, unconditional, pixels, device) to what each text becomes, a row each, and a last one for
            no text: for `unconditional`, or what the model has for that where it is None. pixels is the side of an image,
            device where the encoders are. None: it reads no text.
        tokenizer: the part that sets how long a text may be, and in how many tokens.
        autoencoder: the part that makes latents; None: it works on pixels.
        patch: latents a side that the network takes as one, of which an image is a multiple.
        resizable: whether it draws other sizes than that of its config.
        steps: network calls that it usually draws with.
        scale: of guidance that it is usually drawn with.
        sampler: the name of its sampler in `diffusion_lab.sampling.samplers`.
        flow: whether its process is flow matching.
    """

    title: str
    network: str
    call: Callable
    tables: Callable | None = None
    tokenizer: tuple[str, int] | None = None
    autoencoder: str | None = "vae"
    patch: int = 8
    resizable: bool = True
    steps: int = 50
    scale: float = 1.0
    sampler: str = "ddim"
    flow: bool = False

    def latent_size(self, folder: PipelineFolder) -> int:
        """How wide and high what the network is trained on is."""
        size = folder.config(self.network).get("sample_size")
        return size if isinstance(size, int) else 128  # FLUX does not say


def _prompted(unet, noisy: Tensor, step: Tensor, text: Tensor) -> Tensor:
    return unet(noisy, step, encoder_hidden_states=text, return_dict=False)[0]


def _encoded(pipe, texts: Sequence[str], unconditional: str | None, pixels: int, device) -> Tables:
    return {"text": pipe.encode_prompt([*texts, unconditional or ""], **_once(device))[0]}


def _enlarging(unet, noisy: Tensor, step: Tensor, text: Tensor, small: Tensor, told: Tensor) -> Tensor:
    both = torch.cat([noisy, small], 1)
    return unet(both, step, encoder_hidden_states=text, class_labels=told, return_dict=False)[0]


def _encoded_by_t5(pipe, texts: Sequence[str], unconditional: str | None, pixels: int, device) -> Tables:
    everything = [*texts, unconditional or ""]
    return {"text": pipe.encode_prompt(everything, do_classifier_free_guidance=False, device=device)[0]}


def _sdxl(unet, noisy: Tensor, step: Tensor, text: Tensor, pooled: Tensor, sizes: Tensor) -> Tensor:
    added = {"text_embeds": pooled, "time_ids": sizes}
    return unet(noisy, step, encoder_hidden_states=text, added_cond_kwargs=added, return_dict=False)[0]


def _sdxl_tables(pipe, texts: Sequence[str], unconditional: str | None, pixels: int, device) -> Tables:
    text, _, pooled, _ = pipe.encode_prompt([*texts, unconditional or ""], **_once(device))
    if unconditional is None and pipe.config.force_zeros_for_empty_prompt:
        text[-1], pooled[-1] = 0, 0
    sizes = [pixels, pixels, 0, 0, pixels, pixels]  # original size, corner of the crop, size of the image
    return {"text": text, "pooled": pooled, "sizes": torch.tensor([sizes] * len(text), dtype=text.dtype)}


def _sd3(transformer, noisy: Tensor, step: Tensor, text: Tensor, pooled: Tensor) -> Tensor:
    told = {"encoder_hidden_states": text, "pooled_projections": pooled}
    return transformer(hidden_states=noisy, timestep=step, **told, return_dict=False)[0]


def _sd3_tables(pipe, texts: Sequence[str], unconditional: str | None, pixels: int, device) -> Tables:
    everything = [*texts, unconditional or ""]
    text, _, pooled, _ = pipe.encode_prompt(everything, everything, everything, **_once(device))
    return {"text": text, "pooled": pooled}


def _flux(transformer, noisy: Tensor, step: Tensor, text: Tensor, pooled: Tensor, guidance: Tensor) -> Tensor:
    packed = F.pixel_unshuffle(noisy, 2)
    height, width = packed.shape[2:]
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width)).to(noisy)
    velocity = transformer(
        hidden_states=packed.flatten(2).transpose(1, 2),
        timestep=step / 1000,
        guidance=guidance.float() if transformer.config.guidance_embeds else None,
        pooled_projections=pooled,
        encoder_hidden_states=text,
        txt_ids=torch.zeros(text.shape[1], 3).to(noisy),
        img_ids=F.pad(places, (1, 0)),
        return_dict=False,
    )[0]
    return F.pixel_shuffle(velocity.transpose(1, 2).unflatten(2, (height, width)), 2)


def _flux_tables(pipe, texts: Sequence[str], unconditional: str | None, pixels: int, device) -> Tables:
    text, pooled, _ = pipe.encode_prompt([*texts, unconditional or ""], device=device)
    return {"text": text, "pooled": pooled, "guidance": torch.full((len(text),), 3.5)}


def _pixart(transformer, noisy: Tensor, step: Tensor, text: Tensor, mask: Tensor, sizes: Tensor) -> Tensor:
    large = transformer.config.sample_size == 128  # which alone is told the size of the image
    added = {"resolution": sizes.to(noisy), "aspect_ratio": torch.ones_like(sizes[:, :1]).to(noisy)}
    return transformer(
        noisy,
        encoder_hidden_states=text,
        encoder_attention_mask=mask,
        timestep=step,
        added_cond_kwargs=added if large else {"resolution": None, "aspect_ratio": None},
        return_dict=False,
    )[0]


def _pixart_tables(pipe, texts: Sequence[str], unconditional: str | None, pixels: int, device) -> Tables:
    everything = [*texts, unconditional or ""]
    text, mask, _, _ = pipe.encode_prompt(everything, do_classifier_free_guidance=False, device=device)
    return {"text": text, "mask": mask, "sizes": torch.tensor([[pixels, pixels]] * len(text))}


def _unconditional(unet, noisy: Tensor, step: Tensor) -> Tensor:
    return unet(noisy, step, return_dict=False)[0]


def _dit(transformer, noisy: Tensor, step: Tensor, row: Tensor) -> Tensor:
    return transformer(noisy, timestep=step, class_labels=row, return_dict=False)[0]


def _once(device: torch.device) -> dict:
    """What encode_prompt is told to make one embedding a text."""
    return {"device": device, "num_images_per_prompt": 1, "do_classifier_free_guidance": False}


_SD = Family("Stable Diffusion", "unet", _prompted, _encoded, ("tokenizer", 77), scale=7.5)
_PIXART = Family("PixArt", "transformer", _pixart, _pixart_tables, ("tokenizer", 120), scale=4.5)
_IF = Family(
    "DeepFloyd IF",
    "unet",
    _prompted,
    _encoded_by_t5,
    ("tokenizer", 77),
    autoencoder=None,
    resizable=False,
    steps=100,
    scale=7.0,
    sampler="ddpm",
)
_IF_II = replace(_IF, title="DeepFloyd IF's second stage", call=_enlarging, steps=50, scale=4.0)
_DDPM = Family("DDPM", "unet", _unconditional, autoencoder=None, resizable=False)
FAMILIES = {  # by the name of diffusers' pipeline
    "StableDiffusionPipeline": _SD,
    "StableDiffusionXLPipeline": Family("SDXL", "unet", _sdxl, _sdxl_tables, ("tokenizer", 77), scale=5.0),
    "StableDiffusion3Pipeline": Family(
        "Stable Diffusion 3",
        "transformer",
        _sd3,
        _sd3_tables,
        ("tokenizer_3", 256),
        steps=28,
        scale=7.0,
        sampler="euler",
        flow=True,
    ),
    "FluxPipeline": Family(
        "FLUX",
        "transformer",
        _flux,
        _flux_tables,
        ("tokenizer_2", 512),
        patch=2,
        steps=28,
        sampler="euler",
        flow=True,
    ),
    "PixArtAlphaPipeline": _PIXART,
    "IFPipeline": _IF,
    "IFSuperResolutionPipeline": _IF_II,
    "DDPMPipeline": _DDPM,
    "DDIMPipeline": _DDPM,
    "LDMPipeline": Family("latent diffusion", "unet", _unconditional, autoencoder="vqvae", resizable=False),
    "DiTPipeline": Family("DiT", "transformer", _dit, resizable=False, scale=4.0),
}
