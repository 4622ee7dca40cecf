"""A training that starts from what another one has learned."""

from torch import nn

from diffusion_lab.checkpoints import Checkpoint
from diffusion_lab.denoiser import NoisyModel
from diffusion_lab.errors import UserError

NAMED = 3  # tensors in a message


def start_from(model: NoisyModel, checkpoint: Checkpoint) -> None:
    """Give the network of `model` the weights of a checkpoint's network; what is measured on the data stays its own.

    Raises:
        UserError: a tensor is missing there, is too many, or has another shape; they are named.
    """
    prefix, theirs = "network.", checkpoint.weights
    weights = {key.removeprefix(prefix): value for key, value in theirs.items() if key.startswith(prefix)}
    misfits = _misfits(model.network, weights)
    if misfits:
        more = f" and {len(misfits) - NAMED} more" if len(misfits) > NAMED else ""
        raise UserError(
            f"init_from={checkpoint.path} does not fit this network: {'; '.join(misfits[:NAMED])}{more}. "
            "Take the network, data.channels and classes that it was trained with"
        )
    model.network.load_state_dict(weights)


def _misfits(network: nn.Module, weights: dict) -> list[str]:
    own = network.state_dict()
    found = [f"{key} is not in it" for key in own if key not in weights]
    found += [f"{key} is not in this one" for key in weights if key not in own]
    shapes = {key: (tuple(weights[key].shape), tuple(own[key].shape)) for key in own if key in weights}
    return found + [f"{key} is {theirs} there, {ours} here" for key, (theirs, ours) in shapes.items() if theirs != ours]
