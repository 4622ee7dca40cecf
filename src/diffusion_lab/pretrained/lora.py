"""Low-rank adapters of a Stable Diffusion (LoRA: Hu et al. 2021, arXiv:2106.09685), by peft, as diffusers reads them.

What is trained and saved are the adapters alone; the pretrained network is frozen, and neither in checkpoints nor averaged.
"""

from pathlib import Path
from typing import Any

from torch import nn

from diffusion_lab.conditions import Classes
from diffusion_lab.denoiser import NetworkDenoiser
from diffusion_lab.errors import UserError
from diffusion_lab.pretrained.packages import needed
from diffusion_lab.pretrained.pipeline import open_pipeline

FILE = "pytorch_lora_weights.safetensors"  # as diffusers looks for it
MOST_RANK = 4096  # a file may name it
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]


class Frozen(nn.Module):
    """A pretrained module that goes where it belongs, and whose parameters nobody sees: they are not trained or saved."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.__dict__["module"] = module.requires_grad_(False)

    def forward(self, *arguments, **named) -> Any:
        return self.module(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["module"], name)

    def _apply(self, fn, recurse: bool = True):  # what `to` and its like are made of
        self.module._apply(fn, recurse)
        return super()._apply(fn, recurse)


def lora_denoiser(path: str, conditions: Classes, image_size: int | None = None, rank: int = 8) -> NetworkDenoiser:
    """The denoiser of a Stable Diffusion pipeline with new adapters in its attention, which are all its parameters.

    Args:
        path: of the pipeline, see `diffusion_lab.pretrained.pipeline.open_pipeline`.
        conditions: whose names are the prompts.
        image_size: pixels a side; None: what the pipeline was trained on.
        rank: of the adapters.

    Raises:
        UserError: it is another pipeline, or peft is not installed.
    """
    if not 1 <= rank <= MOST_RANK:
        raise UserError(f"model.rank={rank} must be at least 1 and at most {MOST_RANK}")
    needed("peft")
    from peft import LoraConfig

    prompts = conditions.names or None
    pipeline = open_pipeline(path, prompts, image_size=image_size, accelerator="cpu", dtype="float32")
    if pipeline.folder.kind != "StableDiffusionPipeline":
        raise UserError(f"model.path={path} is a {pipeline.folder.kind}; LoRA is made for a StableDiffusionPipeline")
    denoiser = pipeline.model(hidden=Frozen)
    unet = denoiser.network.network.module
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=ATTENTION))
    adapters = {name.replace(".", "/"): weight for name, weight in unet.named_parameters() if weight.requires_grad}
    denoiser.network.adapters = nn.ParameterDict(adapters)
    return denoiser


def save_lora(denoiser: NetworkDenoiser, folder: Path) -> Path:
    """Write the adapters as diffusers has them: `pipe.load_lora_weights(folder)` takes them; returns the file."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import get_peft_model_state_dict

    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(denoiser.network.network.module))
    layers = {key: value.detach().cpu().contiguous() for key, value in layers.items()}
    StableDiffusionPipeline.save_lora_weights(str(folder), unet_lora_layers=layers, safe_serialization=True)
    return folder / FILE
