"""Experiment pipeline for image diffusion models: compose, train, sample, score, compare.

From Python, `import diffusion_lab as lab`:
    lab.load(file)              a trained model, to sample from and to edit with
    lab.train(*overrides)       what train.py does; returns the run
    lab.evaluate(file, ...)     the figures of a checkpoint
    lab.report(folder)          what the runs below a folder say
    lab.compose(*overrides)     the config of a run
and the classes Model, Run, Denoiser, Space and UserError. Nothing heavy is imported before one of these is used.
"""

import warnings
from importlib import import_module
from typing import Any

warnings.filterwarnings("ignore", module=r"PIL\.")  # several lines for an image that is large, or whose EXIF data are cut
warnings.filterwarnings("ignore", "IProgress not found")  # in notebooks, by what torchmetrics imports where it is installed

_PLACES = {
    **dict.fromkeys(("load", "train", "evaluate", "report", "compose", "Model"), "diffusion_lab.api"),
    "Run": "diffusion_lab.experiments.runs",
    "Denoiser": "diffusion_lab.denoiser",
    "Space": "diffusion_lab.spaces.space",
    "UserError": "diffusion_lab.errors",
}
__all__ = list(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'diffusion_lab' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
