"""A run's folder: what is in it, read and written in this one place. Needs no torch."""

import csv
import hashlib
import io
import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml
from filelock import FileLock

# What may change without changing the experiment: names, places, how it is watched and how it is computed.
NOT_PART_OF_THE_EXPERIMENT = (
    *("name", "logger", "grid", "objective", "compile", "data.cache_dir", "checkpoint", "trusted", "trial"),
    "model.conditions.names",  # found in the data
)


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
    def accuracy(self) -> Path:
        return self.samples / "accuracy.png"

    def epoch_grid(self, epoch: int) -> Path:
        return self.samples / f"epoch_{epoch:04d}.png"

    def results(self) -> dict:
        """The contents of results.json; empty where there is none yet."""
        return json.loads(self.results_file.read_text()) if self.results_file.is_file() else {}

    def config(self) -> dict:
        """The resolved config; empty where there is none yet."""
        return yaml.safe_load(self.config_file.read_text()) if self.config_file.is_file() else {}

    def finished(self) -> bool:
        return self.results().get("status") == "finished"

    def is_settled(self) -> bool:
        """Whether nothing is left to do or to mend: finished, or stopped early by its sweep."""
        return self.results().get("status") in ("finished", "stopped early")

    def finished_as(self, config: dict) -> bool:
        """Whether the finished run here is that of `config`."""
        return self.finished() and self.results()["config_hash"] == config_hash(config)

    def curves(self) -> list[dict[str, float]]:
        """The rows of metrics.csv, without their empty cells; none where there is no such file yet."""
        if not self.metrics_file.is_file():
            return []
        with self.metrics_file.open(newline="") as file:
            rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
        return [{**row, "step": int(row["step"])} for row in rows]

    def write_curves(self, rows: list[dict], columns: list[str]) -> None:
        """Replace metrics.csv."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(rows)
        _write(self.metrics_file, text.getvalue())

    def epochs_done(self) -> int:
        """Epochs of training behind the last checkpoint, or nearly: as many as have held-out errors."""
        return sum(ends_epoch(row) for row in self.curves())

    def lock(self) -> FileLock:
        """What a process holds while it works in this folder. A killed process holds it no more."""
        name = hashlib.sha256(str(self.folder.resolve()).encode()).hexdigest()[:16]
        return FileLock(Path(tempfile.gettempdir(), f"diffusion-lab-{name}.lock"), mode=0o666)

    def begin(self, config: dict) -> None:
        """Write config.yaml. A run of another configuration in the same place is set aside, not mixed in."""
        old = self.config()
        if old and config_hash(old) != config_hash(config):
            self.folder.rename(_free_name(self.folder.with_name(f"{self.folder.name}~{config_hash(old)}")))
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(self.config_file, yaml.safe_dump(config, sort_keys=False))

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
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(self.results_file, json.dumps(results, indent=2) + "\n")

    def remove_if_empty(self) -> None:
        """Leave no trace of a run that never began: drop its empty folder and what is empty above it."""
        for folder in (self.folder, *self.folder.parents[:2]):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def config_hash(config: dict) -> str:
    """Twelve hex digits that differ whenever two configs are different experiments."""
    config = json.loads(json.dumps(config))
    for key in NOT_PART_OF_THE_EXPERIMENT:
        *parents, leaf = key.split(".")
        node = config
        for parent in parents:
            node = node.get(parent) or {}
        node.pop(leaf, None)
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]


def sha256_of(file: Path) -> str:
    """What names a file's content."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def ends_epoch(row: dict) -> bool:
    """Whether a row of metrics.csv is that of an epoch's end: there the held-out errors stand, whichever they are, and how
    long was trained so far."""
    return "train_seconds" in row


def run_name(override_dirname: str) -> str:
    """A run's folder name from its overrides, "default" without any; safe as one folder name, and on a command line."""
    name = re.sub(r"[^\w.+@-]+", "_", override_dirname) or "default"
    if len(name) > 200:
        name = f"{name[:180]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return name


def _write(file: Path, text: str) -> None:
    """Replace a file in one step: a reader, or a kill, sees the old text or the new."""
    scratch = file.with_name(f".{file.name}.{os.getpid()}")
    scratch.write_text(text)
    scratch.replace(file)


def _free_name(path: Path) -> Path:
    """`path`, or `path` with the first number behind it that is not taken."""
    candidates = [path, *(path.with_name(f"{path.name}.{i}") for i in range(2, 1000))]
    return next(candidate for candidate in candidates if not candidate.exists())
