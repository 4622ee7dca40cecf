"""What is exported, and what an export leaves."""

from dataclasses import dataclass, field
from pathlib import Path

from diffusion_lab.checkpoints import Checkpoint
from diffusion_lab.denoiser import Denoiser
from diffusion_lab.experiments.names import data_name
from diffusion_lab.experiments.runs import Run


@dataclass(frozen=True)
class Subject:
    """A checkpoint opened for export.

    Attributes:
        denoiser: on the CPU, in evaluation mode, its parameters without gradients.
        results: the figures of its run, results.json; empty where they are not those of this file.
    """

    checkpoint: Checkpoint
    denoiser: Denoiser
    results: dict

    @property
    def config(self) -> dict:
        """What it was trained with, plain values."""
        return self.checkpoint.config

    @property
    def name(self) -> str:
        """Of the experiment; where its data name it, as `folder`, what those are called."""
        data = self.config["data"]
        return data_name(data) if self.config["name"] == data["name"] else self.config["name"]


@dataclass(frozen=True)
class Exported:
    """What an export has written.

    Attributes:
        file: the one to use, or the folder.
        usage: lines of code, or of a shell, that use it, in the language `language`.
        notes: what is worth knowing of it, one line each.
        rounded: draws as the file does, where its weights are not those of the checkpoint.
    """

    file: Path
    usage: str
    language: str = "python"
    notes: list[str] = field(default_factory=list)
    rounded: Denoiser | None = None


def opened(checkpoint: Checkpoint) -> Subject:
    """A checkpoint with its denoiser and, where it is the last one of a finished run, that run's figures.

    Raises:
        UserError: it is no denoiser's.
    """
    run = Run(checkpoint.path.resolve().parents[1])
    is_scored = checkpoint.path.resolve() == run.last_checkpoint.resolve() and run.finished_as(checkpoint.config)
    denoiser = checkpoint.model(Denoiser).requires_grad_(False)
    return Subject(checkpoint, denoiser, run.results() if is_scored else {})
