"""From a checkpoint file back to a Denoiser or a NoisyClassifier. Pickled code in a file is never run, and only trusted
classes are built."""

import pickle
from pathlib import Path

import torch
from hydra.utils import get_object, instantiate
from torch import Tensor, nn

from diffusion_lab.classifier import NoisyClassifier
from diffusion_lab.denoiser import Denoiser
from diffusion_lab.errors import UserError

PARTS = ("network", "schedule", "target", "level")  # of a config, in the order in which a Denoiser takes them
PREFIXES = {"denoiser": "denoiser.", "classifier": "classifier."}  # of the weights within the LightningModule's
WANTED = {"denoiser": "train.py leaves", "classifier": "train.py experiment=noisy_classifier leaves"}


def load_checkpoint(path: str | Path) -> dict:
    """Read a checkpoint of this project: {"config": plain values, "state_dict": weights, ...}, on the CPU.

    Raises:
        UserError: the file is missing, damaged, another program's, or needs pickled code.
    """
    if not Path(path).is_file():
        raise UserError(f"checkpoint={path} is not a file; a run's are in outputs/<name>/<run>/checkpoints/")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"checkpoint={path} holds pickled code, which is never run, or is damaged") from error
    except Exception as error:
        raise UserError(f"checkpoint={path} cannot be read: it is truncated or no checkpoint at all") from error
    if not isinstance(checkpoint, dict) or not {"config", "state_dict"} <= checkpoint.keys():
        raise UserError(f"checkpoint={path} was not written by diffusion-lab's train.py (it has no config inside)")
    if not set(PARTS) <= checkpoint["config"].keys():
        raise UserError(f"checkpoint={path} is of an older diffusion-lab, whose config names other parts: train it again")
    return checkpoint


def build_denoiser(checkpoint: dict, trusted: tuple[str, ...] | None = ("diffusion_lab",)) -> Denoiser:
    """The Denoiser of a checkpoint, with its averaged weights where the run averaged them, in evaluation mode.

    Args:
        trusted: Python packages whose classes the checkpoint's config may name as `_target_`; None for
            a checkpoint that this process wrote itself.

    Raises:
        UserError: the config names something else, the weights do not fit the network, or are those of a classifier.
    """
    config, weights = checkpoint["config"], _weights(checkpoint, "denoiser")
    if trusted is not None:
        for group in (*PARTS, "data", "sampler", "metrics", "guidance"):
            _refuse_strangers(config.get(group), trusted)
    channels = config["data"]["channels"]
    denoiser = Denoiser(*(instantiate(config[part]) for part in PARTS), torch.zeros(channels), torch.ones(channels))
    return _loaded(denoiser, weights)


def build_classifier(checkpoint: dict, trusted: tuple[str, ...] | None = ("diffusion_lab",)) -> NoisyClassifier:
    """The NoisyClassifier of a checkpoint, as `build_denoiser` does it; its parameters want no gradients.

    Raises:
        UserError: the config names something else, the weights do not fit the network, or are those of a denoiser.
    """
    config, weights = checkpoint["config"], _weights(checkpoint, "classifier")
    parts = ("network", "schedule", "level")
    if trusted is not None:
        for group in (*parts, "data"):
            _refuse_strangers(config[group], trusted)
    channels = config["data"]["channels"]
    classifier = NoisyClassifier(*(instantiate(config[part]) for part in parts), torch.zeros(channels), torch.ones(channels))
    return _loaded(classifier, weights).requires_grad_(False)


def _weights(checkpoint: dict, kind: str) -> dict[str, Tensor]:
    """The weights of a "denoiser" or a "classifier"; raises UserError where they are the other one's."""
    weights = checkpoint["state_dict"]
    for other, prefix in PREFIXES.items():
        if other != kind and any(key.startswith(prefix) for key in weights):
            raise UserError(f"the checkpoint is of a {other}; give that of a {kind}, such as {WANTED[kind]}")
    prefix = PREFIXES[kind]
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def _loaded(model: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    """`model` with these weights, in evaluation mode, in the layout it is fastest in."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError("the checkpoint's weights do not fit the network its config names") from error
    return model.to(memory_format=torch.channels_last).eval()


def has_averaged_weights(checkpoint: dict) -> bool:
    """Whether `state_dict` holds averaged weights (Lightning keeps the raw ones beside them)."""
    return "averaging_state" in checkpoint


def _refuse_strangers(node, trusted: tuple[str, ...]) -> None:
    """Raise UserError if a `_target_` below `node` is defined outside the trusted packages."""
    if isinstance(node, dict):
        target = node.get("_target_")
        if target is not None and not _is_trusted(target, trusted):
            package = target.split(".")[0]
            raise UserError(f"the checkpoint names {target}; if you trust it, add trusted=[diffusion_lab,{package}]")
        for child in node.values():
            _refuse_strangers(child, trusted)
    elif isinstance(node, list):
        for child in node:
            _refuse_strangers(child, trusted)


def _is_trusted(target: str, trusted: tuple[str, ...]) -> bool:
    """Both the name and the definition must be trusted: `package.module.os.system` is named in one, defined in another."""
    if target.split(".")[0] not in trusted:
        return False
    return getattr(get_object(target), "__module__", "").split(".")[0] in trusted
