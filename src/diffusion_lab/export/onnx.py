"""ONNX: one file that ONNX Runtime, and much else, runs without Python or torch."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torch.export import Dim

from diffusion_lab.denoiser import Denoiser, Prediction
from diffusion_lab.errors import UserError
from diffusion_lab.export.quantised import TOLERANCES
from diffusion_lab.export.quantised import quantise as round_weights
from diffusion_lab.export.step import OUTPUTS, TOLERANCE, Step, example, largest_difference, step_of
from diffusion_lab.export.subject import Exported, Subject
from diffusion_lab.files import replacing

USAGE = """\
import numpy, onnxruntime
step = onnxruntime.InferenceSession("{file}")
noisy = numpy.random.default_rng().standard_normal((4, {shape}), dtype="float32")  # noise, as at time 1; 0 is clean
inputs = {{{inputs}}}
image, noise = step.run(None, inputs)  # the estimates of both, from which a sampler takes its next step"""
VALUES = {
    "noisy": "noisy",
    "time": 'numpy.ones(4, "float32")',
    "label": 'numpy.arange(4) % {classes}',
    "scale": 'numpy.full(4, {scale}, "float32")',
}  # fmt: skip


def onnx(subject: Subject, folder: Path, quantise: str | None = None) -> Exported:
    """One step of the denoiser as `model.onnx`, for any batch size, from float32 to float32.

    Args:
        quantise: what its weights are rounded to, see `diffusion_lab.export.quantised`: "fp16" or "int8"; None: float32.

    Raises:
        UserError: a package is missing; the exporter cannot; or what it made differs from torch.
    """
    step = step_of(subject.denoiser)
    file = folder / "model.onnx"
    said = write_onnx(step, file, quantise)
    classes = len(subject.denoiser.conditions)
    scale = subject.config["guidance"].get("scale", 1.0)
    values = {key: VALUES[key].format(classes=classes, scale=scale) for key in step.inputs}
    inputs = ", ".join(f'"{key}": {value}' for key, value in values.items())
    usage = USAGE.format(file=file.name, shape=", ".join(map(str, subject.denoiser.shape)), inputs=inputs)
    return Exported(file, usage, notes=[said], rounded=OnnxDenoiser(step, file) if quantise else None)


def write_onnx(step: Step, file: Path, quantise: str | None = None) -> str:
    """Write `step` to `file`, which is there only once ONNX Runtime gives what torch gives; says by how much it differs.

    Raises:
        UserError: as `onnx` does.
    """
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if not find_spec(name)]
    if missing:
        raise UserError(f"this format needs {', '.join(missing)}: pip install {' '.join(missing)}")
    batch = Dim("batch", min=1)
    with replacing(file) as scratch, _quiet():
        try:
            program = torch.onnx.export(
                step,
                example(step, 0.5),
                input_names=list(step.inputs),
                output_names=list(OUTPUTS),
                dynamic_shapes=[{0: batch} for _ in step.inputs],
                dynamo=True,
                external_data=False,
                verbose=False,
            )
            program.save(scratch, external_data=False)
            _strip(scratch)
            if quantise:
                round_weights(scratch, quantise)
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise UserError(f"torch cannot export this model to ONNX: {reason}") from error
        tolerance = TOLERANCES[quantise] if quantise else TOLERANCE
        what = f"the ONNX graph with weights in {quantise}" if quantise else "the ONNX graph"
        advice = {"advice": "Take fp16, or do without format.quantise"} if quantise else {}
        difference = largest_difference(step, Session(scratch), what, tolerance, **advice)
        return f"{what.replace('the ONNX graph', 'ONNX Runtime')} differs from torch by {difference:.1g} at most"


class Session:
    """An ONNX file in ONNX Runtime, called with tensors in the order of its inputs."""

    def __init__(self, file: Path):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        names = [entry.name for entry in self.session.get_inputs()]
        given = {name: value.contiguous().numpy() for name, value in zip(names, inputs, strict=True)}
        return [torch.from_numpy(output) for output in self.session.run(None, given)]


def _strip(file: Path) -> None:
    """Take out what the exporter notes of each node: lines of source code, and paths of this machine."""
    import onnx

    model = onnx.load(file)
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
    onnx.save(model, file)


class OnnxDenoiser(Denoiser):
    """The denoiser that an ONNX file of `step` is, in ONNX Runtime, on the CPU."""

    def __init__(self, step: Step, file: Path):
        super().__init__(step.denoiser.schedule, step.denoiser.space, step.denoiser.conditions)
        self.step, self.session = step, Session(file)

    def forward(self, noisy: Tensor, time: Tensor, label: Tensor | None = None) -> Prediction:
        label = torch.full_like(time, -1, dtype=torch.int64) if label is None else label
        inputs = {"noisy": noisy, "time": time, "label": label, "scale": torch.ones_like(time)}
        return Prediction(*self.session(*(inputs[name] for name in self.step.inputs)))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of its steps on standard output and by warnings, which are of no use here."""
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger("torch.onnx").setLevel(level)
