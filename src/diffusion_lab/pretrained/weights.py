"""The weights of a single network that diffusers saved, under the names that this package's networks have for them."""

import json
import re
from pathlib import Path

import torch
from torch import Tensor

from diffusion_lab.errors import UserError
from diffusion_lab.pretrained.folders import INDEX

DIT = ("DiTTransformer2DModel", "Transformer2DModel")


def network_weights(path: str | Path) -> dict[str, Tensor]:
    """Of a UNet2DModel for network=diffusers, or of a DiT for network=dit; `path` is its folder, or a pipeline's.

    Raises:
        UserError: it is neither, or holds no safetensors.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise UserError("init_from=FOLDER needs safetensors: pip install 'diffusion-lab[pretrained]'") from error
    folder = Path(path).expanduser()
    if (folder / INDEX).is_file():
        folder = next((folder / part for part in ("unet", "transformer") if (folder / part).is_dir()), folder)
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("_class_name")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"init_from={path} holds no config.json of a network that diffusers saved") from error
    if kind != "UNet2DModel" and kind not in DIT:
        raise UserError(
            f"init_from={path} is a {kind}; give a UNet2DModel, for network=diffusers, or a DiT, for network=dit"
        )
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(f"init_from={path} holds no safetensors: other files may hold code, which is never run")
    try:
        weights = {key: value for file in files for key, value in load_file(file).items()}
        return of_dit(weights) if kind in DIT else {f"unet.{key}": value for key, value in weights.items()}
    except (SafetensorError, OSError, KeyError) as error:
        raise UserError(f"init_from={path} is damaged, or no whole {kind}: {error}") from error


def of_dit(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of diffusers' DiT as `diffusion_lab.networks.dit.DiT` has them.

    diffusers embeds time and class once for each block, with the same weights; here the first block's are taken.
    """
    first = "transformer_blocks.0.norm1.emb."
    sines = theirs[f"{first}timestep_embedder.linear_1.weight"]
    half = sines.shape[1] // 2
    values = theirs["proj_out_2.weight"]
    patch = theirs["pos_embed.proj.weight"].shape[-1]

    def by_channel(rows: Tensor) -> Tensor:
        """Of a patch's values, the pixels last, not first."""
        return rows.unflatten(0, (patch**2, -1)).transpose(0, 1).flatten(0, 1)

    ours = {
        "level.1.weight": sines[:, [*range(2 * half - 1, half - 1, -1), *range(half - 1, -1, -1)]],  # from low to high
        "level.1.bias": theirs[f"{first}timestep_embedder.linear_1.bias"],
        "level.3.weight": theirs[f"{first}timestep_embedder.linear_2.weight"],
        "level.3.bias": theirs[f"{first}timestep_embedder.linear_2.bias"],
        "classes.weight": theirs[f"{first}class_embedder.embedding_table.weight"],
        "out.linear.weight": by_channel(values),
        "out.linear.bias": by_channel(theirs["proj_out_2.bias"]),
    }
    names = {"pos_embed.proj": "embed", "proj_out_1": "out.modulation"}
    parts = {"norm1.linear": "modulation", "attn1.to_out.0": "attention.out", "ff.net.0.proj": "mlp.0", "ff.net.2": "mlp.2"}
    for block in {int(found[1]) for key in theirs if (found := re.match(r"transformer_blocks\.(\d+)\.", key))}:
        names |= {f"transformer_blocks.{block}.{part}": f"blocks.{block}.{own}" for part, own in parts.items()}
        for kind in ("weight", "bias"):
            rows = [theirs[f"transformer_blocks.{block}.attn1.to_{part}.{kind}"] for part in "qkv"]
            ours[f"blocks.{block}.attention.qkv.{kind}"] = torch.cat(rows)
    return ours | {f"{own}.{kind}": theirs[f"{name}.{kind}"] for name, own in names.items() for kind in ("weight", "bias")}
