"""Tiny pipelines with random weights, to try commands with and to test by: a megabyte or two each, nothing is downloaded.

python -m diffusion_lab.pretrained.tiny stable_diffusion FOLDER
"""

import json
import string
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from diffusion_lab.errors import UserError, user_error_in
from diffusion_lab.pretrained.packages import needed

NAMES = {0: "tench, Tinca tinca", 1: "goldfish, Carassius auratus"}  # of ImageNet's classes
WIDTH = 32  # of an embedded token; IF wants multiples of 32


def stable_diffusion(prediction: str = "epsilon") -> Any:
    """Stable Diffusion 1.x, or 2.x with prediction="v_prediction": 16 px, latents of 8."""
    import diffusers

    return diffusers.StableDiffusionPipeline(
        unet=_unet(4),
        vae=_vae(4, 0.18215),
        text_encoder=_clip(),
        tokenizer=_clip_tokenizer(),
        scheduler=diffusers.DDIMScheduler(**LATENT_BETAS, prediction_type=prediction),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion_2() -> Any:
    """Stable Diffusion 2.x: v prediction."""
    return stable_diffusion("v_prediction")


def sdxl() -> Any:
    """SDXL: two text encoders, size conditions."""
    import diffusers

    more = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "cross_attention_dim": 2 * WIDTH}
    return diffusers.StableDiffusionXLPipeline(
        unet=_unet(4, **more, projection_class_embeddings_input_dim=6 * 8 + WIDTH),
        vae=_vae(4, 0.13025),
        text_encoder=_clip(),
        text_encoder_2=_clip(projected=True),
        tokenizer=_clip_tokenizer(),
        tokenizer_2=_clip_tokenizer(),
        scheduler=diffusers.EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
    )


def sd3() -> Any:
    """Stable Diffusion 3: flow, 16 channels, three text encoders."""
    import diffusers

    return diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=16,
            out_channels=16,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=2 * WIDTH,
            caption_projection_dim=32,
            pooled_projection_dim=2 * WIDTH,
            pos_embed_max_size=8,
        ),
        vae=_vae(16, 1.5305, shift=0.0609),
        text_encoder=_clip(projected=True),
        text_encoder_2=_clip(projected=True),
        text_encoder_3=_t5(2 * WIDTH),
        tokenizer=_clip_tokenizer(),
        tokenizer_2=_clip_tokenizer(),
        tokenizer_3=_t5_tokenizer(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def flux(guidance_embeds: bool = True) -> Any:
    """FLUX: flow, 16 channels packed two by two, guidance as an input."""
    import diffusers

    return diffusers.FluxPipeline(
        transformer=diffusers.FluxTransformer2DModel(
            patch_size=1,
            in_channels=64,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            pooled_projection_dim=WIDTH,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=guidance_embeds,
        ),
        vae=_vae(16, 0.3611, shift=0.1159),
        text_encoder=_clip(),
        text_encoder_2=_t5(WIDTH),
        tokenizer=_clip_tokenizer(),
        tokenizer_2=_t5_tokenizer(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256, max_image_seq_len=4096
        ),
    )


def pixart() -> Any:
    """PixArt-alpha: a DiT that reads T5."""
    import diffusers

    return diffusers.PixArtAlphaPipeline(
        transformer=diffusers.PixArtTransformer2DModel(
            sample_size=8,
            num_layers=2,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_channels=WIDTH,
            cross_attention_dim=32,
            in_channels=4,
            out_channels=8,
        ),
        vae=_vae(4, 0.18215),
        text_encoder=_t5(WIDTH),
        tokenizer=_t5_tokenizer(),
        scheduler=diffusers.DPMSolverMultistepScheduler(beta_start=1e-4, beta_end=0.02),
    )


def deepfloyd_if() -> Any:
    """DeepFloyd IF's first stage: pixels, learned variance."""
    import diffusers

    return diffusers.IFPipeline(**_if_parts(), unet=_if_unet(3, 16))


def deepfloyd_if_ii() -> Any:
    """DeepFloyd IF's second stage: enlarges, by two here."""
    import diffusers

    return diffusers.IFSuperResolutionPipeline(
        **_if_parts(),
        unet=_if_unet(6, 32, class_embed_type="timestep"),
        image_noising_scheduler=diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
    )


def ddpm() -> Any:
    """DDPM: pixels, nothing to ask for."""
    import diffusers

    return diffusers.DDPMPipeline(unet=_unconditional(3, 16), scheduler=diffusers.DDPMScheduler())


def ldm() -> Any:
    """Unconditional latent diffusion."""
    import diffusers

    torch.manual_seed(1)
    vqvae = diffusers.VQModel(block_out_channels=(32, 64), latent_channels=3, num_vq_embeddings=64, vq_embed_dim=3, **CODER)
    return diffusers.LDMPipeline(vqvae=vqvae, unet=_unconditional(3, 8), scheduler=diffusers.DDIMScheduler(**LATENT_BETAS))


def dit() -> Any:
    """DiT: classes of ImageNet, two of which have names here."""
    import diffusers

    torch.manual_seed(0)
    return diffusers.DiTPipeline(
        transformer=_waken(
            diffusers.DiTTransformer2DModel(
                sample_size=8,
                num_layers=2,
                patch_size=2,
                attention_head_dim=8,
                num_attention_heads=4,
                in_channels=4,
                out_channels=8,
                num_embeds_ada_norm=1000,
            )
        ),
        vae=_vae(4, 0.18215),
        scheduler=diffusers.DDIMScheduler(),
        id2label=NAMES,
    )


FAMILIES: dict[str, Callable] = {
    make.__name__: make
    for make in (
        *(stable_diffusion, stable_diffusion_2, sdxl, sd3, flux, pixart, deepfloyd_if, deepfloyd_if_ii),
        *(ddpm, ldm, dit),
    )
}
LATENT_BETAS = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "steps_offset": 1,
}
CODER = {
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "norm_num_groups": 8,
}


def save(family: str, folder: str | Path) -> Path:
    """Write the tiny pipeline of that family into `folder`.

    Raises:
        UserError: there is no such family, or diffusers and transformers are not installed.
    """
    if family not in FAMILIES:
        raise UserError(f"{family} is no family; there are {', '.join(FAMILIES)}")
    needed()
    torch.manual_seed(0)
    pipe = FAMILIES[family]()
    pipe.save_pretrained(str(folder), safe_serialization=True)
    if family == "dit":  # whose classes' names diffusers reads, but does not save
        index = Path(folder, "model_index.json")
        index.write_text(json.dumps(json.loads(index.read_text()) | {"id2label": NAMES}, indent=2))
    return Path(folder)


def _unet(channels: int, **more):
    """Of text."""
    import diffusers

    torch.manual_seed(0)
    settings = {
        "sample_size": 8,
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 4,
        "norm_num_groups": 8,
    }
    return diffusers.UNet2DConditionModel(**{**settings, **more})


def _if_unet(channels: int, size: int, **more):
    return _unet(
        channels,
        **more,
        sample_size=size,
        out_channels=6,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        attention_head_dim=16,
        encoder_hid_dim=WIDTH,
        encoder_hid_dim_type="text_proj",
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        cross_attention_norm="group_norm",
        resnet_time_scale_shift="scale_shift",
        act_fn="gelu",
    )


def _if_parts() -> dict:
    import diffusers

    scheduler = diffusers.DDPMScheduler(
        beta_schedule="squaredcos_cap_v2",
        variance_type="learned_range",
        thresholding=True,
        dynamic_thresholding_ratio=0.95,
        sample_max_value=1.5,
        clip_sample=False,
    )
    absent = dict.fromkeys(("safety_checker", "feature_extractor", "watermarker"))
    return {
        "tokenizer": _t5_tokenizer(),
        "text_encoder": _t5(WIDTH),
        "scheduler": scheduler,
        "requires_safety_checker": False,
        **absent,
    }


def _unconditional(channels: int, size: int):
    import diffusers

    torch.manual_seed(0)
    return diffusers.UNet2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
    )


def _vae(channels: int, scale: float, shift: float | None = None):
    import diffusers

    torch.manual_seed(1)
    return diffusers.AutoencoderKL(
        block_out_channels=(32, 64),
        latent_channels=channels,
        scaling_factor=scale,
        shift_factor=shift,
        sample_size=16,
        **CODER,
    )


def _clip(projected: bool = False):
    import transformers

    config = transformers.CLIPTextConfig(
        vocab_size=len(_clip_vocabulary()),
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        projection_dim=WIDTH,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    torch.manual_seed(2 + projected)
    return _waken((transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel)(config).eval())


def _t5(width: int):
    import transformers

    torch.manual_seed(4)
    config = transformers.T5Config(
        vocab_size=len(_t5_pieces()), d_model=width, d_kv=8, d_ff=64, num_layers=2, num_heads=4, dropout_rate=0.0
    )
    return _waken(transformers.T5EncoderModel(config).eval())


def _waken(model: torch.nn.Module) -> torch.nn.Module:
    """Weights so strong that what it reads shows: fresh ones of transformers and of DiT are next to nothing."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def _clip_vocabulary() -> dict[str, int]:
    letters = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters), "fo", "fox</w>"]
    return {token: i for i, token in enumerate(tokens)}


def _clip_tokenizer():
    import transformers

    return transformers.CLIPTokenizer(vocab=_clip_vocabulary(), merges=[("f", "o"), ("fo", "x</w>")], model_max_length=77)


def _t5_pieces() -> list[tuple[str, float]]:
    letters = [*string.ascii_letters, *string.digits, *string.punctuation]
    special = [(token, 0.0) for token in ("<pad>", "</s>", "<unk>")]
    return [*special, *((piece, -2.0) for piece in ("▁", "▁fox", *letters))]


def _t5_tokenizer():
    import transformers

    return transformers.T5Tokenizer(vocab=_t5_pieces(), extra_ids=0)


def main() -> None:
    """The command line: a family and a folder."""
    if len(sys.argv) != 3:
        sys.exit(f"usage: python -m diffusion_lab.pretrained.tiny FAMILY FOLDER, with one of {', '.join(FAMILIES)}")
    try:
        needed()
        from transformers.utils import logging

        logging.disable_progress_bar()
        print(f"a tiny pipeline with random weights: {save(*sys.argv[1:])}")
    except Exception as error:
        mistake = user_error_in(error)
        if mistake is None:
            raise
        sys.exit(f"error: {mistake}")


if __name__ == "__main__":
    main()
