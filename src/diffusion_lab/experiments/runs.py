"""A run's folder: what is in it, read and written in this one place. Needs no torch."""

import csv
import hashlib
import io
import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml
from filelock import FileLock

from diffusion_lab.errors import UserError
from diffusion_lab.figures import DRAWN, HELD_OUT, Figure, declared
from diffusion_lab.files import remove_scratch, write_json, write_text

# What may change without changing the experiment: names, places, how it is watched and how it is computed.
NOT_PART_OF_THE_EXPERIMENT = (
    *("name", "logger", "grid", "objective", "compile", "data.cache_dir", "checkpoint", "trusted", "trial"),
    "model.conditions.names",  # found in the data
    "resume_from",  # a place: its content counts
    *("checkpoints", "rehearsal", "threads", "out"),
)
# Settings that came later, at which they change nothing: the runs of before keep their hash.
LATER = {
    "first": None,
    "steps": None,
    "minutes": None,
    "early_stop": None,
    "patience": 5,
    "gradient_clip": None,
    "accumulate": 1,
    "gradient_checkpointing": False,
    "trainer.accumulate_grad_batches": 1,
}
SUM = "# what follows, by its SHA-256: "  # the first line of config.yaml

OWN_IMAGES = {"folder": "root", "captions": "root", "huggingface": "path"}  # data sets: which key says where they are
LONG_NAME = 60  # letters that a run's folder has not
MEANS = (  # overrides that say least about a run: whole keys, or their first part
    *("epochs", "steps", "minutes", "early_stop", "patience", "batch_size", "accumulate", "gradient_checkpointing"),
    *("threads", "compile", "rehearsal", "checkpoints", "trainer", "metrics", "metrics/figures", "monitor", "objective"),
    *("grid", "snapshots", "first", "data.max_images", "init_from", "resume_from", "teacher.checkpoint"),
    *("space.autoencoder", "guidance.checkpoint"),
)

MOST_NODES = 100_000  # of a config
LARGEST = 1e39  # number of a file: those of trainings are of 32 bits, and what is near the end of 64 overflows in a mean


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
        return _mapping(self.results_file, _results_in) or {}

    def config(self) -> dict:
        """The resolved config; empty where there is none yet, or where it is no longer what was written."""
        return _mapping(self.config_file, _config_in) or {}

    def damage(self) -> dict[Path, str]:
        """The files of this run that can no longer be read, and what to do, one line each."""
        said = {}
        for file, parse in ((self.config_file, _config_in), (self.results_file, _results_in)):
            if file.exists() and _mapping(file, parse) is None:
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
            lines = self.metrics_file.read_text().splitlines(keepends=True)
            table = csv.DictReader(line for line in lines if line.endswith("\n"))
            rows = [{key: _number_in(value) for key, value in row.items() if value} for row in table]
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
        if (self.config_file.is_file() and _is_a_runs(self.config_file)) or "config_hash" in self.results():
            return
        taken = [file for file in (self.config_file, self.results_file, self.metrics_file) if file.exists()]
        taken += [folder for folder in (self.checkpoints, self.samples) if folder.is_dir() and any(folder.iterdir())]
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
            self.folder.rename(_free_name(self.folder.with_name(f"{self.folder.name}~{config_hash(old)}")))
        if found is not self:
            if self.folder.is_dir() and not any(self.folder.iterdir()):  # Hydra has made it
                self.folder.rmdir()
            if self.folder.exists():
                self.folder.rename(_free_name(self.folder.with_name(f"{self.folder.name}~damaged")))
            found.folder.rename(self.folder)
        for folder in (self.folder, self.checkpoints, self.samples):
            remove_scratch(folder)
        text = yaml.safe_dump(config, sort_keys=False)
        write_text(self.config_file, f"{_sum_of(text)}\n{text}")

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


def config_hash(config: dict) -> str:
    """Twelve hex digits that differ whenever two configs are different experiments."""
    config = without_later_defaults(config)
    for key in NOT_PART_OF_THE_EXPERIMENT:
        node, leaf = _place(config, key)
        node.pop(leaf, None)
    return hashlib.sha256(json.dumps(one_number(config), sort_keys=True).encode()).hexdigest()[:12]


def without_later_defaults(config: dict) -> dict:
    """A copy of a config, less what LATER says."""
    config = json.loads(json.dumps(config))
    for key, default in LATER.items():
        node, leaf = _place(config, key)
        if node.get(leaf, default) == default:
            node.pop(leaf, None)
    return config


def _place(config: dict, key: str) -> tuple[dict, str]:
    """The mapping in which the last name of a dotted key stands, an empty one where it does not; and that name."""
    *parents, leaf = key.split(".")
    for parent in parents:
        config = config.get(parent) or {}
    return config, leaf


def one_number(value):
    """A plain value, nested or not, with 3 for 3.0: they are one setting."""
    if isinstance(value, dict):
        return {key: one_number(each) for key, each in value.items()}
    if isinstance(value, list):
        return [one_number(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def sha256_of(file: Path) -> str:
    """What names a file's content."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def content_of(path: Path) -> str:
    """What names the content of a file, or of a folder with weights."""
    if path.is_file():
        return sha256_of(path)
    named = [f"{file.relative_to(path)} {sha256_of(file)}" for file in sorted(path.rglob("*.safetensors"))]
    return hashlib.sha256("\n".join(named).encode()).hexdigest()


def ends_epoch(row: dict) -> bool:
    """Whether a row of metrics.csv is that of an epoch's end: there the held-out errors stand, whichever they are, and how
    long was trained so far."""
    return "train_seconds" in row


def data_name(data: dict) -> str | None:
    """What the data set of a config is called: one's own images by where they are."""
    name = data.get("name")
    place = data.get(OWN_IMAGES.get(str(name)))
    return folder_name(place, otherwise=name) if isinstance(place, str) else name


def folder_name(root: str | None, otherwise: str = "") -> str:
    """What a folder of images is called: the last part of its path."""
    name = Path(root).expanduser().resolve().name if root else ""
    return name.encode("utf-8", "backslashreplace").decode() or otherwise


def run_name(override_dirname: str, *places: str | None) -> str:
    """A run's folder name from its overrides, "default" without any; safe as one folder name, and on a command line. A long
    one says the choices and the seed first, as many as it has letters for, and ends in twelve hex digits of all.

    Args:
        override_dirname: Hydra's, its words with tabs between them.
        places: where its images are. Where one is among the overrides, its last part stands for it, and four hex digits that
            tell it from others of that name.
    """
    for place in filter(None, places):
        short = f"{folder_name(place)}-{_digits(os.fsencode(Path(place).expanduser().resolve()), 4)}"
        typed = rf"data\.(root|path)-(['\"]?){re.escape(str(place))}\2"
        override_dirname = re.sub(typed, lambda _, short=short: short, override_dirname)
    words = [_as_name(word) for word in override_dirname.split("\t")]
    name = "_".join(words) or "default"
    if len(name) < LONG_NAME:
        return name
    said, room = [], LONG_NAME - 14
    for word in sorted(words, key=_use_of):
        if len("_".join([*said, word])) <= room:
            said.append(word)
    return f"{'_'.join(said) or name[:room]}-{_digits(name.encode(), 12)}"


def _as_name(word: str) -> str:
    """An override without the letters that a shell minds. Where another one could look the same then, as a path with a space
    in it and one with an underscore, four hex digits tell them apart."""
    name = re.sub(r"[^\w.+@-]+", "_", word)
    if re.search(r"[^\w.+@/\[\]{}():,'\"~-]", re.sub(r"([,:])\s+", r"\1", word)):
        name += f"-{_digits(word.encode('utf-8', 'surrogateescape'), 4)}"
    return name


def _use_of(word: str) -> int:
    """The less, the more an override says about a run among others: choices, the seed, settings, and at last how long it is
    and how it is computed, watched and scored."""
    key, _, value = word.lstrip("+").partition("-")
    if key == "seed":
        return 1
    if key.split(".")[0] in MEANS or key in MEANS:
        return 3
    is_choice = "." not in key and not re.fullmatch(r"[-+.e\d]+|true|false|null", value)
    return 0 if is_choice else 2


def _digits(content: bytes, count: int) -> str:
    return hashlib.sha256(content).hexdigest()[:count]


def _config_in(text: str) -> object:
    """What config.yaml holds, if its first line says so: cut off, or with a bit turned, it could be another experiment's.

    Raises:
        ValueError: it is not what was written.
    """
    first, _, rest = text.partition("\n")
    if first.startswith(SUM) and first != _sum_of(rest):
        raise ValueError("damaged")
    config = yaml.safe_load(text)
    _check_modest(config)
    return config


def _is_a_runs(file: Path) -> bool:
    """Whether `Run.begin` has written a config.yaml, damaged or not: by its first words, of which a bit may be turned."""
    head = file.read_bytes()[: len(SUM)]
    return sum(found != written for found, written in zip(head, SUM.encode(), strict=False)) <= 1


def _number_in(text: str) -> float:
    """A number out of a file.

    Raises:
        ValueError: it is none, or larger than any that was written.
    """
    number = float(text)
    if LARGEST < abs(number) < math.inf:
        raise ValueError("damaged")
    return number


def _whole_in(text: str) -> int:
    """A whole number out of a file.

    Raises:
        ValueError: it is larger than any that was written.
    """
    if abs(float(text)) > LARGEST:
        raise ValueError("damaged")
    return int(text)


def _check_modest(node: object) -> None:
    """Raise ValueError for what has more leaves than any config: YAML's aliases of aliases make billions of a few lines."""
    left, nodes = MOST_NODES, [node]
    while nodes:
        node = nodes.pop()
        nodes += node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        left -= 1
        if left < 0:
            raise ValueError("damaged")


def _results_in(text: str) -> object:
    """What results.json holds, if its figures, choices and seed are such.

    Raises:
        ValueError: they are not.
    """
    results = json.loads(text, parse_float=_number_in, parse_int=_whole_in)
    json.dumps(results, ensure_ascii=False).encode()  # half a character is a ValueError
    try:
        figures = declared(results).values()
        dict(results.get("choices") or {})
        for key in (*(figure.key for figure in figures), *DRAWN):
            isinstance(results.get(key), int | float) and float(results[key])
    except (AttributeError, TypeError, OverflowError) as error:
        raise ValueError("damaged") from error
    counts = (results.get(key) for key in ("real_images", "samples", "network_calls", "extractor_resolution"))
    names = (results.get(key) for key in (*HELD_OUT, "feature_extractor", "protocol", "config_hash", "status", "error"))
    sound = all(isinstance(count, int | float | None) for count in counts)
    sound = sound and all(isinstance(name, str | int | float | None) for name in names)
    if not (sound and all(map(_is_sound, figures)) and isinstance(results.get("seed"), int | None)):
        raise ValueError("damaged")
    return results


def _is_sound(figure: Figure) -> bool:
    """Whether a declaration out of a file is one."""
    texts = (figure.key, figure.label, figure.unit, figure.error or "", *figure.depends_on)
    return all(isinstance(text, str) for text in texts) and type(figure.digits) is int and 0 <= figure.digits <= 12


def _sum_of(text: str) -> str:
    return f"{SUM}{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _mapping(file: Path, parse: Callable[[str], object]) -> dict | None:
    """What `file` holds; None where it is absent or damaged."""
    try:
        content = parse(file.read_text())
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None
    return content if isinstance(content, dict) else None


def _free_name(path: Path) -> Path:
    """`path`, or `path` with the first number behind it that is not taken."""
    candidates = [path, *(path.with_name(f"{path.name}.{i}") for i in range(2, 1000))]
    return next(candidate for candidate in candidates if not candidate.exists())
