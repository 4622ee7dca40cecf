"""A program of torch.export: the denoiser as a graph of torch's own operators."""

import io
import warnings
from pathlib import Path

import torch
from torch.export import Dim

from diffusion_lab.errors import UserError
from diffusion_lab.export.step import example, largest_difference, step_of
from diffusion_lab.export.subject import Exported, Subject
from diffusion_lab.files import replacing

USAGE = """\
import torch
step = torch.export.load("{file}").module()
noisy = torch.randn(4, {shape})  # at time 1 it is pure noise, at 0 the clean image
image, noise = step({inputs})  # of which a sampler makes its next step"""
VALUES = {
    "noisy": "noisy",
    "time": "torch.ones(4)",
    "label": "torch.arange(4) % {classes}",
    "scale": "torch.full((4,), {scale})",
}


def torch_program(subject: Subject, folder: Path) -> Exported:
    """One step of the denoiser as `model.pt2`, for any batch size.

    Raises:
        UserError: torch.export cannot follow the network, or its program gives something else.
    """
    step, file = step_of(subject.denoiser), folder / "model.pt2"
    batch = Dim("batch", min=1)
    try:
        program = torch.export.export(step, example(step, 0.5), dynamic_shapes=[{0: batch} for _ in step.inputs])
    except Exception as error:  # whatever the network does that it cannot follow
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"torch.export cannot follow this network: {reason}") from error
    with replacing(file) as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights that are on no GPU
        written = io.BytesIO()  # torch's own writer aborts the process where a disk is full
        torch.export.save(program, written)
        scratch.write_bytes(written.getvalue())
        written.seek(0)
        difference = largest_difference(step, torch.export.load(written).module(), "the exported program")
    classes, scale = len(subject.denoiser.conditions), subject.config["guidance"].get("scale", 1.0)
    inputs = ", ".join(VALUES[key].format(classes=classes, scale=scale) for key in step.inputs)
    usage = USAGE.format(file=file.name, shape=", ".join(map(str, subject.denoiser.shape)), inputs=inputs)
    return Exported(file, usage, notes=[f"differs from the model it was made of by {difference:.1g} at most"])
