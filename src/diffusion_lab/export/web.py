"""A page in the browser: the model as ONNX, ONNX Runtime as WebAssembly, and the samplers in JavaScript (`page/`).

Nothing of it needs a server that does more than hand out files, and nothing is fetched from elsewhere.
"""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from diffusion_lab.errors import UserError
from diffusion_lab.experiments.names import data_name
from diffusion_lab.export.onnx import OnnxDenoiser, write_onnx
from diffusion_lab.export.runtime import WASM, WEBGPU, runtime_files
from diffusion_lab.export.step import Step
from diffusion_lab.export.subject import Exported, Subject
from diffusion_lab.files import write_text
from diffusion_lab.parts import build
from diffusion_lab.process.discrete import Discrete
from diffusion_lab.sampling import samplers as own
from diffusion_lab.sampling import thresholds
from diffusion_lab.spaces.pixels import Pixels

PAGE = Path(__file__).parent / "page"
SAMPLERS = (own.ddim, own.ddpm, own.dpm_solver)  # that page/diffusion.js has
POINTS = 1001  # of a schedule's table, between which cubics run
CLOSE = 1e-5  # how near these must come to the schedule's powers, relatively


def web(
    subject: Subject,
    folder: Path,
    samplers: dict,
    fill: Callable,
    webgpu: bool = True,
    quantise: str | None = None,
    runtime: str | None = None,
    cache_dir: str = "~/.cache/diffusion-lab",
) -> Exported:
    """The page, in `folder`: index.html and what it fetches.

    Args:
        samplers: offered beside the one that the model was trained with, by name.
        fill: the sampler that fills holes.
        webgpu: whether to bring what WebGPU needs.
        quantise: what the weights are rounded to, see `diffusion_lab.export.onnx.onnx`.
        runtime, cache_dir: see `diffusion_lab.export.runtime.runtime_files`.

    Raises:
        UserError: the model does not live in pixels, its schedule cannot be tabled, or what ONNX needs is missing.
    """
    model = description(subject, samplers, fill) | {"webgpu": webgpu}
    files = runtime_files(cache_dir, runtime)
    step, file = Step(subject.denoiser), folder / "model.onnx"
    said = write_onnx(step, file, quantise)
    write_text(folder / "model.json", json.dumps(model, allow_nan=False))
    for file in PAGE.iterdir():
        shutil.copyfile(file, folder / file.name)
    (folder / "ort").mkdir(exist_ok=True)
    for name in (*WASM, *(WEBGPU if webgpu else ())):
        shutil.copyfile(files / name, folder / "ort" / name)
    usage = "python -m http.server 8000  # in this folder; then open http://localhost:8000"
    return Exported(folder, usage, "sh", [said], OnnxDenoiser(step, file) if quantise else None)


def description(subject: Subject, samplers: dict, fill: Callable) -> dict:
    """What the page is told of the model: model.json.

    Raises:
        UserError: as `web` does.
    """
    config, denoiser = subject.config, subject.denoiser
    if not isinstance(denoiser.space, Pixels):
        raise UserError(f"the page shows models of pixels, and this one's space is {type(denoiser.space).__name__}")
    trained = described(build(config["sampler"], "sampler"))
    offered = {name: described(sampler) for name, sampler in samplers.items()}
    word = config.get("choices", {}).get("sampler", "as trained")
    offered = ({word: trained} if trained else {}) | {name: way for name, way in offered.items() if way and name != word}
    guidance = config["guidance"]
    is_free = "checkpoint" not in guidance and not guidance.get("rescale")  # which the page can do as it was trained
    return {
        "name": subject.name,
        "data": data_name(config["data"]),
        "shape": list(denoiser.shape),
        "classes": denoiser.conditions.names,
        "mean": denoiser.space.mean.flatten().tolist(),
        "std": denoiser.space.std.flatten().tolist(),
        "schedule": table_of(denoiser.schedule),
        "samplers": offered,
        "fill": described(fill),
        "guidance": {
            "scale": guidance.get("scale", 1.0) if is_free else 1.0,
            "interval": guidance.get("interval") if is_free else None,
        },
    }


def table_of(schedule: nn.Module) -> dict:
    """A schedule's powers, the squares of its rates, as JavaScript takes them up: those of DDPM's steps, or of a smooth
    schedule at even times. (The powers are smooth where a rate begins as a square root.)

    Raises:
        UserError: it is neither.
    """
    if isinstance(schedule, Discrete):
        return {"discrete": True, "signal": (schedule.signal_rate**2).tolist(), "noise": (schedule.noise_rate**2).tolist()}
    even = torch.linspace(0, 1, POINTS, dtype=torch.float64)
    between = torch.rand(4 * POINTS, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tables, rates = ([part.square().numpy() for part in schedule(times)] for times in (even, between))
    for table, wanted in zip(tables, rates, strict=True):
        if not np.allclose(_between(table, between.numpy()), wanted, rtol=CLOSE, atol=1e-9):
            raise UserError(
                f"schedule {type(schedule).__name__} is neither smooth nor one of DDPM's steps, and the page knows no "
                "others: take format=onnx"
            )
    return {"discrete": False, "signal": tables[0].tolist(), "noise": tables[1].tolist()}


def _between(table: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The cubic through the four points of a table around each time, as `scheduleOf` in page/diffusion.js has it."""
    place = times * (len(table) - 1)
    first = np.clip(np.floor(place).astype(int) - 1, 0, len(table) - 4)
    x = place - first
    weights = (
        *(-(x - 1) * (x - 2) * (x - 3) / 6, x * (x - 2) * (x - 3) / 2),
        *(-x * (x - 1) * (x - 3) / 2, x * (x - 1) * (x - 2) / 6),
    )
    return sum(weight * table[first + i] for i, weight in enumerate(weights))


def described(sampler: Callable) -> dict | None:
    """A sampler, with its settings bound, as page/diffusion.js takes it; None where it has no such one."""
    settings = dict(sampler.keywords)
    times, threshold = settings.pop("times", None), settings.pop("threshold", None)
    is_known = sampler.func in SAMPLERS and settings.get("variance") != "learned"
    if not is_known or (threshold and threshold.func not in (thresholds.none, thresholds.static)):
        return None
    return {"sampler": sampler.func.__name__, **settings, "times": _named(times), "threshold": _named(threshold)}


def _named(part: partial | None) -> dict | None:
    return None if part is None else {"name": part.func.__name__, **part.keywords}
