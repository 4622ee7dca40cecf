"""What can be known of a pipeline's folder before its weights are read."""

from math import isfinite
from typing import Any

from diffusion_lab.errors import UserError
from diffusion_lab.pretrained.families import Family
from diffusion_lab.pretrained.folders import DISCRETE, FLOW, PipelineFolder

MOST_SIZE, MOST_STEPS = 4096, 1_000_000


def check_folder(folder: PipelineFolder, family: Family) -> None:
    """Raise UserError for what can be known before weights are read."""
    parts = folder.parts()
    for part in (family.network, family.autoencoder, "scheduler"):
        if part and part not in parts:
            raise UserError(f"model.path={folder.name} holds no {part}, which a {folder.kind} needs")
    channels = folder.config(family.network).get("in_channels")
    if channels == 9:
        raise UserError(
            f"model.path={folder.name} is an inpainting checkpoint, whose network wants the hole beside the image (nine "
            "channels): take the plain one, edit=inpaint works with it"
        )
    if parts["scheduler"] not in (FLOW if family.flow else DISCRETE):
        raise UserError(f"model.path={folder.name}: its {parts['scheduler']} has a forward process that is not known here")
    _check_numbers(folder, family)
    folder.check_weights()


def _check_numbers(folder: PipelineFolder, family: Family) -> None:
    """Raise UserError for numbers of the folder's configs that no such pipeline has."""
    autoencoder = folder.config(family.autoencoder) if family.autoencoder else {}
    network, scheduler = folder.config(family.network), folder.config("scheduler")
    for config, key, is_sound in (
        (network, "sample_size", lambda size: size is None or (type(size) is int and 1 <= size <= MOST_SIZE)),
        (scheduler, "num_train_timesteps", lambda steps: type(steps) is int and 1 <= steps <= MOST_STEPS),
        (scheduler, "prediction_type", lambda word: isinstance(word, str)),
        (scheduler, "dynamic_thresholding_ratio", lambda ratio: _is_number(ratio) and 0 < ratio <= 1),
        (scheduler, "sample_max_value", lambda limit: _is_number(limit) and limit >= 1),
        (autoencoder, "scaling_factor", lambda factor: factor is None or (_is_number(factor) and factor)),
        (autoencoder, "shift_factor", lambda shift: shift is None or _is_number(shift)),
    ):
        if key in config and not is_sound(config[key]):
            raise UserError(f"model.path={folder.name}: its {key}={config[key]} is none that a {folder.kind} has")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and isfinite(value)
