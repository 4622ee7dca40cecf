"""Checkpoint files: cut, with bits turned, with configs of an attacker's making, and pickles that run code."""

import copy
import functools
import io
import os
import pickle
import zipfile
from pathlib import Path
from random import Random

import torch

from diffusion_lab.commands.composition import compose_config
from diffusion_lab.commands.opened import drawing_of, open_model
from diffusion_lab.commands.train import training_config
from diffusion_lab.experiments.runs import Run
from diffusion_lab.parts import build
from diffusion_lab.torture.command_lines import TINY
from diffusion_lab.torture.folders import flipped
from diffusion_lab.torture.trial import CANARY, Outcome, tried

TARGETS = (
    *("os.system", "subprocess.run", "builtins.eval", "shutil.rmtree", "torch.load", "joblib.load", "pandas.read_pickle"),
    *("diffusion_lab.experiments.sweeps.save", "diffusion_lab.commands.sweep.main", "hydra.utils.instantiate"),
    *("diffusion_lab.networks.unet.UNet", "diffusion_lab.process.schedules.Linear", "", "nosuch", 5, None),
)
VALUES = (
    *(None, True, -1, 0, 3.5, float("nan"), 2**70, "", "xyz", [], [1], {}, {"a": 1}, "x" * 10_000),
    *("${oc.create:{_target_:os.system,_args_:[touch $" + CANARY + "]}}", "${oc.env:HOME}", "/etc/passwd", b"bytes"),
)


class Bomb:
    """A pickle of this runs a command when it is loaded without care."""

    def __reduce__(self):
        return os.system, (f'touch "${CANARY}"',)


def try_one(random: Random) -> Outcome:
    """Open a checkpoint and draw an image with it."""
    name, content = random.choice((_cut, _flipped, _bent, _bent, _bent, _pickled, _not_one))(random)
    return tried(name, lambda folder: _open(folder / "x.ckpt", content))


def _open(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    cfg = compose_config("sample", [f"checkpoint={file}", "accelerator=cpu"])
    opened, config = open_model(cfg)
    drawing = drawing_of(opened, config, cfg)
    list(drawing.images(1, drawing.classes_in_turn(1), 1))


@functools.cache
def _sound() -> dict:
    """What a checkpoint of a tiny run holds, weights at random."""
    config = training_config(compose_config("train", TINY), Run(Path()))
    model = build(config["model"], "model")
    return {"config": config, "state_dict": {f"model.{key}": value for key, value in model.state_dict().items()}}


def _written(state: dict) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def _cut(random: Random) -> tuple[str, bytes]:
    content = _written(_sound())
    end = random.randrange(len(content))
    return f"cut at {end}", content[:end]


def _flipped(random: Random) -> tuple[str, bytes]:
    return "a bit turned", flipped(_written(_sound()), random)


def _bent(random: Random) -> tuple[str, bytes]:
    state = copy.deepcopy(_sound())
    told = []
    for _ in range(random.choice((0, 1, 1, 2))):
        node, place = state["config"], "config"
        while True:
            key = random.choice([*node])
            place += f".{key}"
            if not (isinstance(node[key], dict) and node[key]) or random.random() < 0.15:
                break
            node = node[key]
        node[key] = random.choice(TARGETS if key == "_target_" and random.random() < 0.8 else VALUES)
        told.append(f"{place}={str(node[key])[:60]}")
    if random.random() < 0.2:
        weight = random.choice([*state["state_dict"]])
        state["state_dict"][weight] = random.choice(
            (torch.zeros(0), torch.zeros(3, 3, dtype=torch.int64), None, "x", Bomb())
        )
        told.append(f"weights {weight}")
    return "; ".join(told) or "sound", _written(state)


def _pickled(random: Random) -> tuple[str, bytes]:
    bomb = random.choice((Bomb(), {"config": Bomb(), "state_dict": {}}, {"config": {}, "state_dict": {"w": Bomb()}}))
    if random.random() < 0.5:
        return "pickle", pickle.dumps(bomb)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(bomb))
        archive.writestr("archive/version", "3")
    return "pickle in a zip", file.getvalue()


def _not_one(random: Random) -> tuple[str, bytes]:
    size = random.choice((0, 1, 100, 10_000))
    return f"{size} random bytes", random.randbytes(size)
