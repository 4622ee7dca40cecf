"""From run folders to one table: what each run was, what it gave, and in what the runs differ."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from diffusion_lab.experiments.hashes import NOT_PART_OF_THE_EXPERIMENT, one_number
from diffusion_lab.experiments.names import OWN_IMAGES, data_name
from diffusion_lab.experiments.runs import Run
from diffusion_lab.figures import DRAWN, FIGURES, Figure, declared
from diffusion_lab.reports.origins import with_origins
from diffusion_lab.sizes import size_text

# Shown with the figures, not ranked by: a column, and what it is in results.json. Epochs and steps may be factors too.
BESIDE = {"train_seconds": "train_seconds", "parameters": "parameters", "trained_epochs": "epochs", "trained_steps": "steps"}
MADE_OF_OTHERS = ("model", "task", "criterion")  # parts of a config that repeat its choices
# What is no factor: where images are, and what names them by content, are told by the name of the data.
PLACES = ("data.root", "data.path", "data.source.root", "data.source.path")
IGNORED = (*MADE_OF_OTHERS, *PLACES, "seed", "checkpoint_sha256", "contents.data", "choices")


@dataclass(frozen=True)
class Collection:
    """Runs side by side.

    Attributes:
        runs: one row a run, indexed by its folder: `status`, `error`, `seed`, each factor, each of `figures` and of
            what they depend on, BESIDE.
        figures: what was measured, by key, in the order of tables.
        factors: the columns that say in what the runs differ, besides the seed.
        choices: what they share, choice by choice.
        changed_together: factor to the settings that never changed without it.
        set_aside: folders of older configurations, which are left out.
        repeats: folders of runs that another one is the same as, seed included: no more evidence, so left out too.
        damage: what can no longer be read, and what to do about it, a sentence a file.
    """

    runs: pd.DataFrame
    figures: dict[str, Figure]
    factors: list[str]
    choices: dict[str, str]
    changed_together: dict[str, list[str]]
    set_aside: list[str]
    repeats: list[str]
    damage: list[str]

    @property
    def finished(self) -> pd.DataFrame:
        return self.runs[self.runs["status"] == "finished"]

    @property
    def beside(self) -> list[str]:
        """Columns that are shown with the figures, not ranked by."""
        return [*BESIDE, *(key for key, figure in self.figures.items() if not figure.ranked)]

    def figure(self, key: str) -> Figure:
        """What `key` stands for, also where no run has it."""
        return self.figures.get(key) or FIGURES.get(key) or Figure(key, key)


def measured_on(figures: Iterable[Figure]) -> list[str]:
    """All that some figures depend on: where one of these differs, they are never ranked together."""
    return list(dict.fromkeys([*DRAWN, *(key for figure in figures for key in figure.depends_on)]))


def find_runs(folder: Path) -> list[Run]:
    """All runs below `folder`, those set aside (`<run>~<hash>`) too."""
    return [Run(path) for path in sorted({f.parent for name in ("results.json", "config.yaml") for f in folder.rglob(name)})]


def collect(runs: Iterable[Run]) -> Collection:
    """Read results.json and config.yaml of each run."""
    runs = list(runs)
    current = [run for run in runs if "~" not in run.folder.name]
    found = {key: figure for run in current for key, figure in declared(run.results()).items()}
    known = [*(key for key in FIGURES if key in found), *(key for key in found if key not in FIGURES)]
    figures = {key: found[key] for key in known}
    kept = _without_repeats(current, measured_on(figures.values()))
    configs = {run: run.config() for run in kept}
    flat = {run: _flat(config) for run, config in configs.items()}
    words = _named({run: run.results().get("choices") or configs[run].get("choices") or {} for run in kept}, configs)
    told = with_origins(flat, configs)
    settings = pd.DataFrame([{**words[run], **_without_words(told[run], words[run])} for run in kept], dtype=object)
    settings = settings.astype(object).where(settings.notna(), "none")
    factors, together = _factors(settings)
    table = pd.DataFrame(
        [_row(run, flat[run], words[run].get("data"), figures) for run in kept], index=[str(run.folder) for run in kept]
    )
    columns = {factor: _column(factor, table) for factor in factors}
    for factor, column in columns.items():
        table[column] = [_value(factor, value) for value in settings[factor]]
    return Collection(
        runs=table,
        figures=figures,
        factors=list(columns.values()),
        choices={group: str(settings[group].iloc[0]) for group in _groups(words) if settings[group].map(str).nunique() == 1},
        changed_together={columns[factor]: _parts(keys) for factor, keys in together.items()},
        set_aside=[run.folder.name for run in runs if run not in current],
        repeats=[run.folder.name for run in current if run not in kept],
        damage=[said for run in current for said in run.damage().values()],
    )


def _without_repeats(runs: list[Run], measured_on: list[str]) -> list[Run]:
    """One of the finished runs of each configuration, whatever they were typed as and are called; and all other runs."""
    first = {}
    for run in runs:
        results = run.results()
        same = (results.get("config_hash"), *(str(results.get(key)) for key in measured_on))
        first.setdefault(same if run.finished() and same[0] else run.folder, run)
    return list(first.values())


def _named(words: dict[Run, dict], configs: dict[Run, dict]) -> dict[Run, dict]:
    """The words of each run's choices, with the name of a folder of images for the word `folder`; folders of one name with
    other images get a hash behind it."""
    names, contents = {}, {}
    for run, config in configs.items():
        data = _mapping(config, "data")
        if str(data.get("name")) in OWN_IMAGES:
            names[run] = str(data_name(data))
            contents[run] = str(_mapping(config, "contents").get("data", data.get("root")))
    for run, name in list(names.items()):
        if len({contents[other] for other in names if data_name(_mapping(configs[other], "data")) == name}) > 1:
            names[run] = f"{name}-{hashlib.sha256(contents[run].encode()).hexdigest()[:4]}"
    return {run: said | ({"data": names[run]} if run in names else {}) for run, said in words.items()}


def _mapping(config: dict, key: str) -> dict:
    value = config.get(key)
    return value if isinstance(value, dict) else {}


def _row(run: Run, config: dict, data: str | None, figures: dict[str, Figure]) -> dict:
    results = run.results()
    unknown = {run.config_file, run.results_file} & run.damage().keys()
    row = {
        "name": run.folder.name,
        "status": "damaged" if unknown else results.get("status", "unfinished"),
        "error": results.get("error", ""),
        "seed": results.get("seed", config.get("seed")),
        "data": data,
        "image_size": _size(config.get("data.image_size")),
        "progress": "" if results else _progress(run.epochs_done(), config),
    }
    errors = {f"{key}_image_error": f"{key}_image_error" for key in figures}
    for column, key in {**dict.fromkeys(figures), **errors, **BESIDE}.items():
        value = results.get(key or column)
        row[column] = float(value) if isinstance(value, int | float) else float("nan")
    return row | {key: results.get(key) for key in measured_on(figures.values()) if key not in row}


def _progress(done: int, config: dict) -> str:
    """How far a training is."""
    if config.get("epochs"):
        return f"{done} of {config['epochs']} epochs"
    asked = next((f" of {config[unit]} {unit}" for unit in ("steps", "minutes") if config.get(unit)), "")
    return f"{done} epochs{asked}"


def _size(size) -> int | str | None:
    """The side of square images, or both sides in words."""
    return size_text(size) if isinstance(size, list) and len(size) == 2 else size


def _flat(node: dict, prefix: str = "") -> dict:
    """Nested config to `a.b.c: value`, without what is not part of the experiment."""
    flat = {}
    for key, value in node.items():
        name = f"{prefix}{key}"
        if name in NOT_PART_OF_THE_EXPERIMENT and name != "checkpoint":
            continue
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: one_number(value)}
    return flat


def _without_words(flat: dict, words: dict) -> dict:
    """Settings that can be factors. What the choice of a word implies is found out later: it never changes without it."""
    skipped = (*IGNORED, *(f"{group}._target_" for group in words))
    return {key: value for key, value in flat.items() if not any(f"{key}.".startswith(f"{skip}.") for skip in skipped)}


def _factors(settings: pd.DataFrame) -> tuple[list[str], dict[str, list[str]]]:
    """The columns that vary, first the choices, then the shortest names; without those that follow another one."""
    text = settings.map(str)
    varied = sorted((key for key in text if text[key].nunique() > 1), key=lambda key: ("." in key, key.count(".")))
    factors, together = [], {}
    for key in varied:
        leader = next((f for f in factors if (text.groupby(f)[key].nunique() == 1).all()), None)
        if leader is None:
            factors.append(key)
        elif not (key.startswith(f"{_name(leader)}.") or (text[key] == text[leader]).all()):
            together.setdefault(leader, []).append(key)
    return factors, together


def _groups(words: dict) -> list[str]:
    return list(dict.fromkeys(group for chosen in words.values() for group in chosen))


def _parts(keys: list[str]) -> list[str]:
    """Settings by the part of the config that they belong to, each once; a lone setting of a part in full."""
    parts = {}
    for key in map(_name, keys):
        parts.setdefault(key.split(".")[0], []).append(key)
    return [names[0] if len(names) == 1 else part for part, names in parts.items()]


def _name(key: str) -> str:
    return key.removesuffix("._target_")


def _column(factor: str, table: pd.DataFrame) -> str:
    """What a factor is called in a table that may have a measured column of its name."""
    name = _name(factor)
    return f"{name} (choice)" if name in table and name != "data" else name


def _value(key: str, value) -> str | float:
    """A level as a table shows it: numbers stay numbers, a class is its bare name."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    return str(value).rsplit(".", 1)[-1] if key.endswith("._target_") else str(value)
