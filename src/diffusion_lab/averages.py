"""Power-function averages of a training's weights, of which one of any length is put together afterwards.

Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models" (EDM2), 2024, arXiv:2312.02696, section 3
and appendix C. An average of exponent gamma at step t counts the weights of step s by (gamma + 1) s^gamma / t^(gamma + 1).
Its length is the deviation of s under that weighting, as a share of t: 0 keeps the last weights alone, LONGEST all alike.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from diffusion_lab.errors import UserError
from diffusion_lab.files import replacing

LENGTHS = (0.05, 0.1)  # kept while training, as in the paper
LONGEST = 12**-0.5
FOLDER = "averages"  # beside a run's checkpoints


def exponent(length: float) -> float:
    """Gamma of an average of that length, in (0, LONGEST): length^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3))."""
    inverse = length**-2
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


def overlap(step: float, gamma: float, other_step: float, other_gamma: float) -> float:
    """The integral of the product of two averages' weightings over the training."""
    if step > other_step:
        step, gamma, other_step, other_gamma = other_step, other_gamma, step, gamma
    scale = (gamma + 1) * (other_gamma + 1) / (gamma + other_gamma + 1)
    return scale * math.exp(other_gamma * (math.log(step) - math.log(other_step))) / other_step


def shares(kept: Sequence[tuple[int, float]], step: int, length: float) -> np.ndarray:
    """How much of each kept average there is in that of another length: the least squares fit of its weighting among
    those that add up to 1. (The paper leaves the sum to the fit, which needs more snapshots to come near 1.)

    Args:
        kept: step and length of each; several steps for each length.
        step, length: of the wanted one.

    Returns:
        (N,) float64.
    """
    known = [(at, exponent(each)) for at, each in kept]
    system = np.ones((len(known) + 1, len(known) + 1))  # the last row and column: Lagrange's, for the sum
    system[:-1, :-1] = [[overlap(*one, *other) for other in known] for one in known]
    system[-1, -1] = 0
    wanted = [overlap(*one, step, exponent(length)) for one in known]
    return np.linalg.lstsq(system, [*wanted, 1], rcond=None)[0][:-1]


def write_snapshot(folder: Path, step: int, averages: Mapping[float, Mapping[str, Tensor]]) -> None:
    """Write the averages of each length after `step` steps to a file in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{length:g} {name}": tensor.detach().cpu().contiguous()
        for length, weights in averages.items()
        for name, tensor in weights.items()
    }
    with replacing(folder / f"{step:09d}.safetensors") as scratch:
        scratch.write_bytes(save(tensors))


def weights_of_length(folder: Path, steps: int, length: float) -> dict[str, Tensor]:
    """The weights, averaged with that length, at the last snapshot of `folder` up to so many steps.

    Raises:
        UserError: there are no snapshots, one cannot be read, or no average can be so long.
    """
    if not 0 < length < LONGEST:
        raise UserError(f"model.ema_length={length} must be above 0 and below {LONGEST:.4f}, where all steps count alike")
    files = [file for file in sorted(folder.glob("*.safetensors")) if file.stem.isdigit() and int(file.stem) <= steps]
    if not files:
        raise UserError(f"model.ema_length={length} needs the snapshots of a training with snapshots=1, in {folder}")
    kept = [(int(file.stem), each) for file in files for each in LENGTHS]
    parts = dict(zip(kept, shares(kept, int(files[-1].stem), length), strict=True))
    combined: dict[str, Tensor] = {}
    for file in files:
        _add(file, {each: parts[int(file.stem), each] for each in LENGTHS}, combined)
    return {name: tensor.float() for name, tensor in combined.items()}


def _add(file: Path, parts: Mapping[float, float], combined: dict[str, Tensor]) -> None:
    """Add a snapshot's averages, in the given shares, in float64: shares of both signs nearly cancel."""
    try:
        with safe_open(file, "pt") as content:
            for key in content.keys():  # noqa: SIM118
                length, name = key.split(" ", 1)
                part = content.get_tensor(key).double() * parts[float(length)]
                combined[name] = combined[name] + part if name in combined else part
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"{file} cannot be read, or is no snapshot of averaged weights") from error


def move(average: Sequence[Tensor], current: Sequence[Tensor], step: int, gamma: float) -> None:
    """An average's next step, in place: it keeps (1 - 1 / step)^(gamma + 1) of itself."""
    torch._foreach_lerp_(list(average), list(current), 1 - (1 - 1 / step) ** (gamma + 1))
