"""Where a run's curves and pictures go: metrics.csv always, and W&B or TensorBoard beside it."""

import re
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from PIL import Image
from torch import Tensor

from diffusion_lab.experiments.artifacts import used_in
from diffusion_lab.experiments.runs import Run, ends_epoch
from diffusion_lab.figures import FIGURES, declared
from diffusion_lab.files import write_text

SEEN = "images_seen"  # against which what is drawn is followed
TAGS = ("task", "data", "network", "schedule", "target", "loss")


@dataclass(frozen=True)
class Samples:
    """Images that a model drew, and what is to be said of each.

    Attributes:
        images: (N, C, H, W), values from 0 to 1; image i is that of `seed` and i.
        labels: what each was asked for, in words.
        scale: of guidance.
        nearest: the training images (N, C, H, W), uint8, that they are nearest to, and how far; None where nobody looked.
    """

    images: Tensor
    seed: int
    labels: Sequence[str]
    scale: float
    nearest: tuple[Tensor, Tensor] | None = None


class Wandb(WandbLogger):
    """Lightning's logger, whose run knows which values of a curve are good ones, and which artifacts it came of."""

    def __init__(self, artifacts: bool, used: Sequence[str], **settings):
        super().__init__(**settings)
        self.artifacts, self.used = artifacts, used

    @property
    def experiment(self):
        is_new = self._experiment is None
        run = super().experiment
        if is_new:
            self._prepare(run)
        return run

    def _prepare(self, run) -> None:
        run.define_metric(SEEN, hidden=True)
        for key, figure in FIGURES.items():
            if figure.curve:
                against = SEEN if "samples" in figure.depends_on else "trainer/global_step"
                run.define_metric(f"val/{key}", step_metric=against, summary="min" if figure.less_is_better else "max")
        if self.used:
            run.config.update({"used_artifacts": list(self.used)})
            for name in self.used if self._wandb_init["mode"] == "online" else ():  # of which W&B draws a run's ancestors
                run.use_artifact(name)


def wandb(run: Run, config: dict, mode: str, project: str, entity: str | None = None, artifacts: bool = True) -> WandbLogger:
    """A W&B run, grouped by the experiment's name and tagged with its choices; a resumed run keeps its id.

    Args:
        mode: "offline" (no account, no network), "online" or "disabled".
        artifacts: whether `log_checkpoints` sends the checkpoints.
    """
    import wandb as wandb_library

    id_file = run.folder / "wandb" / "id"
    if not (id_file.is_file() and id_file.read_text()):
        write_text(id_file, secrets.token_hex(4))
    choices = config["choices"]
    logger = Wandb(
        artifacts=artifacts,
        used=used_in(config),
        name=run.folder.name,
        project=project,
        entity=entity,
        id=id_file.read_text(),
        resume="allow",
        group=config["name"],
        job_type=_job_of(config),
        tags=[f"{group}={choices[group]}" for group in TAGS if group in choices],
        config=config,
        save_dir=run.folder,
        mode=mode,
        settings=wandb_library.Settings(silent=True),
    )
    logger._wandb_init.pop("anonymous", None)  # Lightning always passes it, and W&B warns that it is gone
    if mode == "offline":
        _tell_again(run, logger)
    return logger


def _job_of(config: dict) -> str:
    return "export" if "format" in config else "evaluate" if "checkpoint" in config else "train"


def _tell_again(run: Run, logger: WandbLogger) -> None:
    """Begin a resumed offline run with all that was logged up to its checkpoint, in place of its earlier parts.

    Uploaded one after the other, parts would overlap by what came after the checkpoint; so there is one part, whole.
    """
    for earlier in (run.folder / "wandb").glob("offline-run-*"):
        shutil.rmtree(earlier)
    epoch = 0
    for row in run.curves():
        step = row.pop("step")
        logger.log_metrics(row, step)
        if ends_epoch(row):
            epoch += 1
            pictures = {"sample_grid": run.epoch_grid(epoch), "denoised": run.epoch_denoised(epoch)}
            for key, file in pictures.items():
                if file.is_file():
                    log_image([logger], key, file, step)


def tensorboard(run: Run, config: dict, mode: str) -> TensorBoardLogger:
    """TensorBoard event files in the run's folder. `mode` is not used: they are always local."""
    return TensorBoardLogger(run.folder, name="", version="tensorboard")


def csv_only(run: Run, config: dict, mode: str) -> None:
    """Nothing beside metrics.csv. `mode` is not used."""


class Unheard(Logger):
    """What all processes but the first one log to: the curves are one run's."""

    name, version = "unheard", ""

    def log_metrics(self, metrics: dict, step: int | None = None) -> None:
        pass

    def log_hyperparams(self, *_) -> None:
        pass


class _CurveWriter(ExperimentWriter):
    """Lightning's writer of metrics.csv, from which a kill at any moment takes no row that was written."""

    def __init__(self, run: Run, rows: list[dict]):
        super().__init__(str(run.folder))
        self.run = run
        self.metrics_keys = sorted({"step"}.union(*rows))
        run.write_curves(rows, self.metrics_keys)

    def _check_log_dir_exists(self) -> None:
        """Lightning would delete the earlier file here."""

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        self.run.write_curves(self.run.curves(), fieldnames)


def metrics_csv(run: Run, resume_step: int | None = None) -> CSVLogger:
    """Lightning's CSV logger on metrics.csv. A resumed run keeps the rows up to `resume_step`, its last checkpoint."""
    kept = [] if resume_step is None else [row for row in run.curves() if row["step"] < resume_step]
    logger = CSVLogger(run.folder, name="", version="", flush_logs_every_n_steps=1)  # a kill loses no row
    logger._experiment = _CurveWriter(run, kept)
    return logger


def log_image(loggers: list[Logger], key: str, file: Path, step: int) -> None:
    """Send the picture in `file` to each logger that takes pictures."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(key, [str(file)], step=step)
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(key, np.asarray(Image.open(file).convert("RGB")), step, dataformats="HWC")


def log_samples(loggers: list[Logger], samples: Samples, step: int) -> None:
    """Send a table, a drawn image a row, to W&B."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.log({"samples": _table(samples), "trainer/global_step": step})


def _table(samples: Samples):
    import wandb as wandb_library

    def picture(image: Tensor):
        values = image if image.is_floating_point() else image / 255
        pixels = (values * 255).round().byte().permute(1, 2, 0).numpy()
        return wandb_library.Image(Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels))

    columns = ["sample", "seed", "image", "label", "scale"]
    rows = [
        [picture(image), samples.seed, i, label, samples.scale]
        for i, (image, label) in enumerate(zip(samples.images, samples.labels, strict=True))
    ]
    if samples.nearest:
        columns += ["nearest training image", "distance"]
        rows = [[*row, picture(image), float(far)] for row, image, far in zip(rows, *samples.nearest, strict=True)]
    return wandb_library.Table(columns=columns, data=rows)


def log_files(logger: WandbLogger, name: str, folder: Path, about: dict) -> None:
    """Send all files below `folder` as one W&B artifact of type "model", which uploads with the run.

    Args:
        about: plain values, the artifact's metadata.
    """
    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
    logger.experiment.log_artifact(_artifact(name, files, about))


def log_checkpoints(loggers: list[Logger], run: Run, card: str | None, about: dict) -> None:
    """Send best.ckpt and last.ckpt, with the aliases `best` and `last`, as versions of one W&B artifact, with a card."""
    for logger in loggers:
        if not (isinstance(logger, Wandb) and logger.artifacts):
            continue
        name = re.sub(r"[^\w.-]", "_", f"{logger._wandb_init['group']}-{run.folder.name}")[-128:]
        if card:
            write_text(run.checkpoints / "MODEL_CARD.md", card)
        for alias in ("best", "last"):
            files = {file.name: file for file in (run.checkpoints / f"{alias}.ckpt", run.checkpoints / "MODEL_CARD.md")}
            files = {name: file for name, file in files.items() if file.is_file()}
            if f"{alias}.ckpt" in files:
                logger.experiment.log_artifact(_artifact(name, files, about), aliases=[alias])


def _artifact(name: str, files: dict[str, Path], about: dict):
    """A model of these files, which stay where they are: no copies of them are made."""
    import wandb as wandb_library

    artifact = wandb_library.Artifact(name, type="model", metadata=about)
    for inside, file in files.items():
        artifact.add_file(str(file), inside, skip_cache=True, policy="immutable")
    return artifact


def alert(loggers: list[Logger], title: str, text: str, level: str = "ERROR") -> None:
    """Have W&B tell the user, by the way that is set there: an "ERROR", or a "WARN"."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.alert(title, text, level=level)


def mark_preempted(loggers: list[Logger]) -> None:
    """Tell W&B that the run was stopped from outside, so that an agent's sweep queues it again."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.mark_preempting()


def log_summary(loggers: list[Logger], run: Run, results: dict, step: int) -> None:
    """Final figures: as one last row, or into the W&B summary with the best value of each held-out curve."""
    figures = {key: value for key, value in results.items() if isinstance(value, int | float)}
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update({**results, **best_of_curves(run)})
        else:
            logger.log_metrics({f"final/{key}": value for key, value in figures.items()}, step)


def best_of_curves(run: Run) -> dict[str, float]:
    """The best value that each held-out curve of metrics.csv reached, as `best/<curve>`."""
    figures = {**FIGURES, **declared(run.results())}
    values = {}
    for row in run.curves():
        for curve in row:
            if curve.startswith("val/") and not curve.endswith("_std"):
                values.setdefault(curve, []).append(row[curve])
    more = {f"val/{key}" for key, figure in figures.items() if not figure.less_is_better}
    return {f"best/{curve}": (max if curve in more else min)(reached) for curve, reached in values.items()}


def close(loggers: list[Logger], failed: bool = False) -> None:
    """Write everything out and end the W&B run, so that the next job of a multirun starts its own."""
    for logger in loggers:
        logger.finalize("failed" if failed else "success")
        if isinstance(logger, WandbLogger):
            import wandb as wandb_library

            wandb_library.finish(exit_code=int(failed))
