"""A training that starts from what another one has learned."""

import logging
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.denoiser import NoisyModel
from diffusion_lab.errors import UserError
from diffusion_lab.pretrained.weights import network_weights

log = logging.getLogger(__name__)

NAMED = 3  # tensors in a message


def start_from(model: NoisyModel, path: str | Path, trusted: Sequence[str] | None = (), strict: bool = True) -> None:
    """Give the network of `model` the weights of another; what is measured on the data stays its own.

    Args:
        path: of a checkpoint of ours, or a folder with a network that diffusers saved.
        trusted: packages whose classes the checkpoint may name.
        strict: all are to fit; else what does is taken, and the rest is named and stays as it was.

    Raises:
        UserError: a tensor is missing there, is too many, or has another shape; they are named. Or none fits.
    """
    weights = _weights(path, trusted)
    own = model.network.state_dict()
    misfits = _misfits(own, weights)
    fitting = {key: value for key, value in weights.items() if key in own and own[key].shape == value.shape}
    more = f" and {len(misfits) - NAMED} more" if len(misfits) > NAMED else ""
    said = f"{'; '.join(misfits[:NAMED])}{more}"
    if misfits and (strict or not fitting):
        raise UserError(
            f"init_from={path} does not fit this network: {said}. Take the network, data.channels and classes that it was "
            "trained with, or init_from_strict=false to keep what fits"
        )
    if misfits:
        log.warning("of init_from %d of %d tensors fit; not %s", len(fitting), len(own), said)
    model.network.load_state_dict(fitting, strict=False)


def _weights(path: str | Path, trusted: Sequence[str] | None) -> dict[str, Tensor]:
    if Path(path).expanduser().is_dir():
        return network_weights(path)
    weights, prefix = load_checkpoint(path, trusted).weights, "network."
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def _misfits(own: dict[str, Tensor], weights: dict[str, Tensor]) -> list[str]:
    found = [f"{key} is not in it" for key in own if key not in weights]
    found += [f"{key} is not in this one" for key in weights if key not in own]
    shapes = {key: (tuple(weights[key].shape), tuple(own[key].shape)) for key in own if key in weights}
    return found + [f"{key} is {theirs} there, {ours} here" for key, (theirs, ours) in shapes.items() if theirs != ours]
