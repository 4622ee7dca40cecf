"""What a kind of training brings."""

from dataclasses import dataclass, field
from pathlib import Path

from lightning.pytorch import Callback

from diffusion_lab.data.cache import Decoded
from diffusion_lab.denoiser import NoisyModel
from diffusion_lab.experiments.runs import Run
from diffusion_lab.experiments.tracking import Samples
from diffusion_lab.figures import Figure
from diffusion_lab.hardware import Machine
from diffusion_lab.training.module import Training


@dataclass(frozen=True)
class Setting:
    """Where a training takes place: its config, folder, images, device and precision."""

    config: dict
    run: Run
    decoded: Decoded
    machine: Machine


@dataclass(frozen=True)
class Outcome:
    """What came of a trained model: for results.json, pictures by the names that loggers are to give them, images drawn."""

    results: dict
    pictures: dict[str, Path] = field(default_factory=dict)
    samples: Samples | None = None


class Task:
    """A kind of training. A config composes it, as `task`, beside the `model` that it trains.

    Attributes:
        kind: of that model.
        groups: the choices that play a part.
        shares: whether all processes of a training are to call `outcome`, and share its work; else the first alone.
        figures: of its outcome, and of the held-out curves val/<key> that its module logs, where they are not this
            package's: which are better when higher, and what `objective`, `monitor` and `early_stop` may name.
    """

    kind: type[NoisyModel]
    groups: tuple[str, ...]
    shares = False
    figures: tuple[Figure, ...] = ()

    def training(self, model: NoisyModel, **settings) -> Training:
        """The module that Lightning trains; `settings` are of any Training."""
        raise NotImplementedError

    def check(self, model: NoisyModel, setting: Setting) -> None:
        """Raise UserError for what else would go wrong only after a while."""

    def callbacks(self, setting: Setting) -> list[Callback]:
        """What it does while it trains."""
        return []

    def outcome(self, model: NoisyModel, setting: Setting) -> Outcome:
        """Score and picture the trained model, in evaluation mode, on the device."""
        raise NotImplementedError

    @staticmethod
    def end(run: Run, results: dict) -> dict[str, Path | str]:
        """What a run says at its end beside its figures, by title: files, or sentences."""
        return {}

    @staticmethod
    def next(checkpoint: str) -> list[tuple[str, str]]:
        """Scripts, and their arguments, worth typing next."""
        return []
