"""Autoencoders that are there already: a checkpoint of task=autoencoder, or a folder that diffusers saved."""

import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from torch import Tensor, nn

from diffusion_lab.checkpoints import load_checkpoint, refuse_strangers
from diffusion_lab.errors import UserError
from diffusion_lab.networks.diffusers_autoencoders import KINDS
from diffusion_lab.parts import build
from diffusion_lab.pretrained.folders import INDEX
from diffusion_lab.pretrained.packages import needed
from diffusion_lab.sizes import Size
from diffusion_lab.spaces.latents import fingerprint

OURS = "diffusion_lab.autoencoder.Autoencoder"
THEIRS = "diffusion_lab.networks.diffusers_autoencoders.DiffusersAutoencoder"

LARGE = 1024  # pixels: a size that suits all


@dataclass(frozen=True)
class SavedAutoencoder:
    """An autoencoder on the disk.

    Attributes:
        path: of its file or folder.
        node: the config of its network, plain values.
        weights: of that.
    """

    path: str
    node: dict
    weights: dict[str, Tensor]

    def node_for(self, image_size: Size | None = None) -> dict:
        """The config of its network, for images of another size."""
        return self.node if image_size is None else {**self.node, "image_size": image_size}

    def network(self, image_size: Size | None = None) -> nn.Module:
        """Its network, frozen.

        Raises:
            UserError: it does not suit the size, or the weights do not fit what its config says.
        """
        network = build(self.node_for(image_size), "space.autoencoder")
        try:
            network.load_state_dict(self.weights)
        except RuntimeError as error:
            raise UserError(f"space.autoencoder={self.path}: the weights do not fit the network of its config") from error
        return network.eval().requires_grad_(False)

    def sha256(self) -> str:
        """Of its weights."""
        return fingerprint(self.network())


def saved_autoencoder(path: str | Path, trusted: Sequence[str] = ()) -> SavedAutoencoder:
    """Open the autoencoder at `path`: a checkpoint of task=autoencoder, its run's folder, or a folder of diffusers, of an
    autoencoder or of a pipeline.

    Args:
        trusted: packages whose classes a checkpoint may name.

    Raises:
        UserError: there is none, or it names what is not trusted.
    """
    path = Path(path).expanduser()
    run = path / "checkpoints/last.ckpt"
    file = run if run.is_file() else path
    if not file.exists():
        raise UserError(
            f"space.autoencoder={path} is not there: give a checkpoint of task=autoencoder, or a folder of diffusers'"
        )
    time = (file if file.is_file() else _folder(file) / "config.json").stat().st_mtime_ns
    return _opened(str(file), tuple(trusted), time)


@cache  # each key of a config that depends on it asks
def _opened(path: str, trusted: tuple[str, ...], time: int) -> SavedAutoencoder:
    if Path(path).is_dir():
        return _of_diffusers(path)
    checkpoint = load_checkpoint(path, trusted)
    model = checkpoint.config["model"]
    if model.get("_target_") != OURS:
        raise UserError(f"space.autoencoder={path} is of another kind of model: give a checkpoint of task=autoencoder")
    prefix = "network."
    weights = {key.removeprefix(prefix): value for key, value in checkpoint.weights.items() if key.startswith(prefix)}
    return SavedAutoencoder(path, model["network"], weights)


def _folder(path: Path) -> Path:
    """An autoencoder's own folder, in a pipeline's or not."""
    folder = path / "vae" if (path / INDEX).is_file() else path
    if not (folder / "config.json").is_file():
        raise UserError(
            f"space.autoencoder={path} holds neither a checkpoint of task=autoencoder nor diffusers' config.json"
        )
    return folder


def _of_diffusers(path: str) -> SavedAutoencoder:
    needed()
    import diffusers
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = _folder(Path(path))
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind, channels = config["_class_name"], config["in_channels"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"space.autoencoder={path}: its config.json is none of an autoencoder") from error
    if kind not in KINDS:
        raise UserError(f"space.autoencoder={path} is a {kind}: give one of {', '.join(KINDS)}")
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(f"space.autoencoder={path} holds no safetensors: other files may hold code, which is never run")
    taken = set(inspect.signature(getattr(diffusers, kind)).parameters) - {"in_channels", "out_channels"}
    settings = {key: value for key, value in config.items() if key in taken}
    node = {"_target_": THEIRS, "kind": kind, "channels": channels, "image_size": LARGE, **settings}
    try:
        refuse_strangers({"model": {"network": node}}, path)
    except UserError as error:
        raise UserError(str(error).replace("checkpoint=", "space.autoencoder=")) from error
    try:
        weights = {f"autoencoder.{key}": value.float() for file in files for key, value in load_file(file).items()}
    except (SafetensorError, OSError) as error:
        raise UserError(f"space.autoencoder={path} is damaged: {error}") from error
    return SavedAutoencoder(path, node, weights)
