"""safetensors: weights and config in a file that holds nothing else, and is a tenth or so of a checkpoint."""

from pathlib import Path

from diffusion_lab.export.subject import Exported, Subject
from diffusion_lab.safetensors_files import SUFFIX, write_model

USAGE = """\
import diffusion_lab as lab
model = lab.load("{file}")  # the same model: its samples are those of the checkpoint, bit for bit
images = model.sample(16, seed=0)  # (16, {shape}), values from 0 to 1
# or without this package, the weights alone: safetensors.torch.load_file("{file}")"""


def safetensors(subject: Subject, folder: Path) -> Exported:
    """The weights that the checkpoint is sampled with, and its config, as `model.safetensors`."""
    file = folder / f"model{SUFFIX}"
    checkpoint = subject.checkpoint
    write_model(file, checkpoint.config, checkpoint.weights, checkpoint.averaged)
    shape = ", ".join(map(str, subject.denoiser.space.pixel_shape))
    return Exported(file, USAGE.format(file=file.name, shape=shape))
