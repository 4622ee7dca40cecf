"""A model as a safetensors file: its weights, and beside them, as text in the file's header, the config it is built of.

Other programs read the weights; this one reads the whole as it reads a checkpoint. Nothing in such a file can be run.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from diffusion_lab.errors import UserError
from diffusion_lab.files import replacing

SUFFIX = ".safetensors"


def write_model(file: Path, config: dict, weights: Mapping[str, Tensor], averaged: bool) -> None:
    """Write weights and config, plain values, to `file`.

    Args:
        averaged: whether the weights are averages over the training's last steps.
    """
    weights = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in weights.items()}
    header = {"config": json.dumps(config), "averaged": json.dumps(averaged)}
    header["sha256"] = _sum_of(header, weights)
    with replacing(file) as scratch:
        scratch.write_bytes(save(weights, header))


def read_model(file: Path) -> tuple[dict, dict[str, Tensor], bool]:
    """Config, weights and whether those are averages, of a file that `write_model` wrote.

    Raises:
        UserError: it was damaged, or written by another program.
    """
    try:
        with safe_open(file, "pt") as content:
            header = content.metadata() or {}
            weights = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"checkpoint={file} cannot be read: it is truncated or no safetensors file") from error
    if not {"config", "averaged", "sha256"} <= set(header):
        raise UserError(f"checkpoint={file} was not written by diffusion-lab's export.py (it has no config inside)")
    if header["sha256"] != _sum_of(header, weights):
        raise UserError(f"checkpoint={file} is damaged: its content is not what was written")
    return json.loads(header["config"]), weights, header["averaged"] == "true"


def _sum_of(header: Mapping[str, str], weights: Mapping[str, Tensor]) -> str:
    """The SHA-256 of all that is in the file; the format has none of its own."""
    total = hashlib.sha256(f"{header['averaged']} {header['config']}".encode())
    for name in sorted(weights):
        tensor = weights[name]
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
