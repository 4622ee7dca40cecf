"""A run's folder: what is in it, read and written in this one place. Needs no torch."""

import contextlib
import csv
import io
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import yaml
from filelock import FileLock

from diffusion_lab.errors import UserError
from diffusion_lab.experiments.hashes import config_hash
from diffusion_lab.experiments.reading import (
    LARGEST_FILE,
    config_in,
    is_a_runs,
    is_begun,
    mapping_in,
    number_in,
    results_in,
    sum_of,
)
from diffusion_lab.files import remove_scratch, write_json, write_text

# What a run writes in its folder, config.yaml last.
OWN = (
    "results.json",
    "metrics.csv",
    "checkpoints",
    "samples",
    "strip.png",
    "web",
    "lora",
    "tensorboard",
    "wandb",
    "config.yaml",
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """The folder `outputs/<name>/<run>/` of one experiment."""

    folder: Path

    @property
    def config_file(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def results_file(self) -> Path:
        return self.folder / "results.json"

    @property
    def metrics_file(self) -> Path:
        return self.folder / "metrics.csv"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        return self.checkpoints / "last.ckpt"

    @property
    def resumable(self) -> list[Path]:
        """The checkpoints that training can go on from, the one that is furthest on first: the others are for the day
        when that is damaged."""
        names = ("last.ckpt", "previous.ckpt", "best.ckpt")
        return [self.checkpoints / name for name in names if (self.checkpoints / name).is_file()]

    @property
    def samples(self) -> Path:
        return self.folder / "samples"

    @property
    def final_grid(self) -> Path:
        return self.samples / "final.png"

    def epoch_denoised(self, epoch: int) -> Path:
        return self.samples / f"denoised_{epoch:04d}.png"

    @property
    def strip(self) -> Path:
        return self.folder / "strip.png"

    @property
    def page(self) -> Path:
        """The page in the browser, where it was exported to `web` in this folder."""
        return self.folder / "web" / "index.html"

    @property
    def accuracy(self) -> Path:
        return self.samples / "accuracy.png"

    def epoch_grid(self, epoch: int) -> Path:
        return self.samples / f"epoch_{epoch:04d}.png"

    def results(self) -> dict:
        """The contents of results.json; empty where there is none yet, or where it can no longer be read."""
        return mapping_in(self.results_file, results_in) or {}

    def config(self) -> dict:
        """The resolved config; empty where there is none yet, or where it is no longer what was written."""
        return mapping_in(self.config_file, config_in) or {}

    def damage(self) -> dict[Path, str]:
        """The files of this run that can no longer be read, and what to do, one line each."""
        said = {}
        for file, parse in ((self.config_file, config_in), (self.results_file, results_in)):
            if file.exists() and mapping_in(file, parse) is None:
                said[file] = f"{file} is damaged: run the same command again, and it is made again"
        try:
            self.curves()
        except UserError as error:
            said[self.metrics_file] = str(error)
        return said

    def finished(self) -> bool:
        return self.results().get("status") == "finished"

    def is_settled(self) -> bool:
        """Whether nothing is left to do or to mend: finished, or stopped early by its sweep."""
        return self.results().get("status") in ("finished", "stopped early")

    def finished_as(self, config: dict) -> bool:
        """Whether the finished run here is that of `config`."""
        return self.finished() and self.results().get("config_hash") == config_hash(config)

    def curves(self) -> list[dict[str, float]]:
        """The rows of metrics.csv, without their empty cells; none where there is no such file yet. A last row that a kill
        has cut off is left out.

        Raises:
            UserError: it is no such file.
        """
        if not self.metrics_file.is_file():
            return []
        try:
            if self.metrics_file.stat().st_size > LARGEST_FILE:
                raise ValueError("damaged")
            lines = self.metrics_file.read_text().splitlines(keepends=True)
            table = csv.DictReader(line for line in lines if line.endswith("\n"))
            rows = [{key: number_in(value) for key, value in row.items() if value} for row in table]
            return [{**row, "step": int(row["step"])} for row in rows]
        except (OSError, ValueError, KeyError, TypeError, OverflowError, csv.Error) as error:
            raise UserError(f"{self.metrics_file} is damaged: mend it, or delete it and do without its curves") from error

    def write_curves(self, rows: list[dict], columns: list[str]) -> None:
        """Replace metrics.csv."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.metrics_file, text.getvalue())

    def sound_curves(self) -> list[dict[str, float]]:
        """The rows of metrics.csv, none where it is damaged, which `damage` says."""
        try:
            return self.curves()
        except UserError:
            return []

    def epochs_done(self) -> int:
        """Epochs of training behind the last checkpoint, or nearly: as many as have held-out errors."""
        return sum(ends_epoch(row) for row in self.sound_curves())

    def lock(self) -> FileLock:
        """What a process holds while it works in this folder: a file beside it, that is removed at the end. A killed process
        holds it no more."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder.with_name(f".{self.folder.name}.lock"), mode=0o666)

    def of(self, config: dict) -> "Run":
        """Where the run of `config` is: here, or set aside from here, where another configuration has taken its place."""
        aside = Run(self.folder.with_name(f"{self.folder.name}~{config_hash(config)}"))
        here = self.config()
        return aside if aside.config() and not (here and config_hash(here) == config_hash(config)) else self

    def has_begun(self, config: dict) -> bool:
        """Whether there are checkpoints of the run of `config`, here or set aside, that it goes on from."""
        found = self.of(config)
        return bool(found.config() and config_hash(found.config()) == config_hash(config) and found.resumable)

    def check_place(self) -> None:
        """Raise UserError where there are files that a run would replace and that no run has written."""
        if is_a_runs(self.config_file) or "config_hash" in self.results():
            return
        taken = [file for file in (self.results_file, self.metrics_file) if file.exists()]
        taken += [self.config_file] if self.config_file.exists() and not is_begun(self.config_file) else []
        folders = (self.checkpoints, self.samples, self.folder / "wandb")
        taken += [folder for folder in folders if folder.is_dir() and any(folder.iterdir())]
        if taken:
            raise UserError(f"{taken[0]} is not of a run that was made here, and would be replaced: give another folder")

    def begin(self, config: dict) -> None:
        """Write config.yaml. A run of another configuration in the same place is set aside, not mixed in; one of this
        configuration that was set aside is taken back.

        Raises:
            UserError: the folder holds somebody else's files.
        """
        self.check_place()
        old, found = self.config(), self.of(config)
        if old and config_hash(old) != config_hash(config):
            self._set_aside(config_hash(old))
        if found is not self:
            if self.config_file.exists():
                self._set_aside("damaged")
            _move(found.folder, self.folder)
        if self.config_file.exists():  # else what is here is nobody's scratch
            remove_scratch(self.folder, "config.yaml", "results.json", "metrics.csv", "strip.png")
            remove_scratch(self.checkpoints, "*.ckpt", "MODEL_CARD.md")
            remove_scratch(self.samples, "*.png")
        text = yaml.safe_dump(config, sort_keys=False)
        write_text(self.config_file, f"{sum_of(text)}\n{text}")

    def _set_aside(self, why: str) -> None:
        """Move the run that is here beside itself; what else is in its folder stays."""
        place = self.folder.with_name(f"{self.folder.name}~{why}")
        place = _free_name(place) if (place / "config.yaml").exists() else place  # else a kill has left it begun
        _move(self.folder, place)
        log.info("the run that was in %s is set aside, in %s", self.folder, place.name)

    def finish(self, results: dict) -> None:
        """Write results.json with status "finished"."""
        self._write_results({**results, "status": "finished"})

    def fail(self, reason: str, config: dict) -> None:
        """Write results.json with status "failed" and the reason, one line."""
        reason = " ".join(reason.split())
        self._write_results(
            {"status": "failed", "error": reason, "seed": config.get("seed"), "config_hash": config_hash(config)}
        )

    def stop_early(self, reason: str, config: dict) -> None:
        """Write results.json with status "stopped early" and the reason, one line. Its checkpoints stay: typed alone, the
        run goes on."""
        self._write_results(
            {"status": "stopped early", "error": reason, "seed": config.get("seed"), "config_hash": config_hash(config)}
        )

    def _write_results(self, results: dict) -> None:
        write_json(self.results_file, results)

    def remove_if_empty(self, above: int = 2) -> None:
        """Leave no trace of a run that never began: drop its empty folder and what is empty above it, so many levels."""
        for folder in (self.folder, *self.folder.parents[:above]):
            if folder.is_dir():
                if folder.resolve() == Path.cwd():
                    return
                try:
                    folder.rmdir()
                except OSError:  # it is not empty, or a link, or not ours
                    return


def ends_epoch(row: dict) -> bool:
    """Whether a row of metrics.csv is that of an epoch's end: there the held-out errors stand, whichever they are, and how
    long was trained so far."""
    return "train_seconds" in row


def _move(source: Path, target: Path) -> None:
    """Move a run's own files, config.yaml last: until it is there nothing takes the others for a run, and a move that a kill
    has cut off goes on."""
    target.mkdir(parents=True, exist_ok=True)
    for name in OWN:
        if os.path.lexists(source / name):
            shutil.move(source / name, target / name)
    with contextlib.suppress(OSError):  # it is a link, or somebody's files are in it
        source.rmdir()


def _free_name(path: Path) -> Path:
    """`path`, or `path` with the first number behind it that is not taken."""
    candidates = [path, *(path.with_name(f"{path.name}.{i}") for i in range(2, 1000))]
    return next(candidate for candidate in candidates if not candidate.exists())
