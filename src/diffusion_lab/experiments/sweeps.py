"""W&B sweep files: read, checked, overridden, and turned into jobs.

A job is a dict of override keys to values. The same file gives the same jobs each time it is run here, so that a sweep
which was killed finds its finished jobs again.
"""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NotRequired

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from pydantic import StringConstraints, TypeAdapter, ValidationError
from typing_extensions import TypeAliasType, TypedDict

from diffusion_lab.errors import UserError
from diffusion_lab.experiments.reading import LARGEST, nodes_in
from diffusion_lab.files import write_text

MOST_JOBS = 10_000  # of a sweep, each of a minute or more
METHODS = ("grid", "random", "bayes")
# What is written, and where, and what is called, is for the command line alone. What is only read a file may name:
# data.root, checkpoint, init_from, resume_from.
NOT_FOR_A_FILE = ("trusted", "out", "data.cache_dir", "trial")

Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*([./@][A-Za-z0-9_]+)*$")]  # as Hydra has them
Value = TypeAliasType("Value", "str | int | float | bool | list[Value] | None")


class Parameter(TypedDict, total=False):
    """W&B's description of a parameter."""

    value: Value
    values: list[Value]
    probabilities: list[float]
    distribution: str
    min: float
    max: float
    mu: float
    sigma: float
    q: float


class Metric(TypedDict):
    name: Key
    goal: NotRequired[str]


class Sweep(TypedDict):
    """Of which types a sweep file is; `_check` says what else it must be."""

    program: str
    method: str
    parameters: dict[Key, Parameter]
    metric: NotRequired[Metric]
    run_cap: NotRequired[int]
    early_terminate: NotRequired[dict[str, Value]]


TYPES = TypeAdapter(Sweep)


def load(file: str | Path) -> dict:
    """Read and check a sweep file.

    Raises:
        UserError: it is missing, no YAML, or not what W&B's schema wants.
    """
    if not Path(file).is_file():
        raise UserError(f"{file} is not a file; sweep files are in sweeps/")
    if "${" in str(Path(file).resolve()):
        raise UserError(f"{file}: its path holds ${{, which Hydra would resolve: rename it")
    try:
        sweep = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(sweep, dict):
        raise UserError(f"{file} is not a W&B sweep file: it has no program, method and parameters")
    for key in ("program", "method", "parameters"):
        if key not in sweep:
            raise UserError(f"{file} has no `{key}`, which a W&B sweep file needs")
    _check_plain(sweep, file)
    _check_types(sweep, file)
    _check(sweep, file)
    if sweep["method"] != "grid" and not sweep.get("run_cap"):
        raise UserError(f"{file}: method {sweep['method']} has no end of its own; give run_cap: 20, say")
    return sweep


def _check_plain(sweep: dict, file: str | Path) -> None:
    """Raise UserError for what would be resolved, W&B's own ${args} in `command` aside, and for too much of it."""
    try:
        for value in nodes_in([part for key, part in sweep.items() if key != "command"]):
            if isinstance(value, str) and "${" in value:
                raise UserError(f"{file} holds {value!r}: nothing in a file is resolved, so write the value itself")
            if isinstance(value, int | float) and LARGEST < abs(value) < math.inf:
                raise UserError(f"{file} holds a number beyond {LARGEST:g}")
    except ValueError as error:
        raise UserError(f"{file} is no sweep file: {error}") from error


def _check_types(sweep: dict, file: str | Path) -> None:
    try:
        TYPES.validate_python(sweep, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "[key]")
        raise UserError(f"{file}: {where} is not as in W&B's sweep files: {first['msg']}") from error


def _check(sweep: dict, file: str | Path) -> None:
    """Raise UserError for what W&B would refuse too."""
    from diffusion_lab.experiments.search import check

    if sweep["method"] not in METHODS:
        raise UserError(f"{file}: method {sweep['method']!r} is not one of {', '.join(METHODS)}")
    for key in sweep["parameters"]:
        if key in NOT_FOR_A_FILE or key.startswith("hydra") or any(part.startswith("_") for part in re.split("[./@]", key)):
            raise UserError(f"{file}: {key} is not for a file to say: type it on the command line")
    if not sweep["parameters"]:
        raise UserError(f"{file}: parameters must name at least one")
    metric = sweep.get("metric", {})
    if metric.get("goal", "minimize") not in ("minimize", "maximize"):
        raise UserError(f"{file}: metric must have a name, and a goal that is minimize or maximize")
    if "run_cap" in sweep and sweep["run_cap"] <= 0:
        raise UserError(f"{file}: run_cap: {sweep['run_cap']} must be a whole number above 0")
    if sweep["method"] == "bayes" and "name" not in metric:
        raise UserError(f"{file}: method bayes needs a metric, such as metric: {{name: kid, goal: minimize}}")
    if "early_terminate" in sweep:
        _check_early_terminate(sweep["early_terminate"], file)
    try:
        check(sweep["parameters"], sweep["method"])
    except ValueError as error:
        raise UserError(f"{file}: {error}") from error
    _check_count(sweep, file)


def _check_count(sweep: dict, where: str | Path) -> None:
    count = sweep.get("run_cap", 0)
    if sweep["method"] == "grid":
        count = math.prod(len(parameter.get("values", [0])) for parameter in sweep["parameters"].values())
    if count > MOST_JOBS:
        raise UserError(f"{where} asks for more than {MOST_JOBS} jobs: leave some out")


def _check_early_terminate(settings: dict, file: str | Path) -> None:
    if settings.get("type") != "hyperband":
        raise UserError(f"{file}: early_terminate must be a mapping with type: hyperband")
    wanted = {"min_iter": 1, "max_iter": 1, "s": 1, "eta": 2}
    for key, least in wanted.items():
        if key in settings and not (type(settings[key]) is int and settings[key] >= least):
            raise UserError(f"{file}: early_terminate.{key}: {settings[key]} must be a whole number, at least {least}")
    if "min_iter" not in settings and not {"max_iter", "s"} <= set(settings):
        raise UserError(f"{file}: early_terminate needs min_iter, or max_iter and s; they count epochs")


def with_overrides(sweep: dict, overrides: list[str]) -> dict:
    """`sweep` with Hydra overrides in place of its parameters of the same name: `epochs=3` fixes one, `seed=0,1` lists."""
    parameters = dict(sweep["parameters"])
    for override in OverridesParser.create().parse_overrides(overrides):
        key = override.get_key_element()
        if override.is_sweep_override():
            parameters[key] = {"values": [yaml.safe_load(text) for text in override.sweep_string_iterator()]}
        else:
            text = override.get_value_element_as_str()
            parameters[key] = {"value": yaml.safe_load(text) if text else ""}
    sweep = {**sweep, "parameters": parameters}
    _check_count(sweep, "the sweep")
    return sweep


def job_count(sweep: dict) -> int:
    """How many jobs the sweep will have run at its end."""
    return len(known_jobs(sweep, lambda job: None)) if sweep["method"] == "grid" else sweep["run_cap"]


def known_jobs(sweep: dict, figure: Callable[[dict], float | None], done: list | tuple = ()) -> list[dict]:
    """The jobs that are known before any more is run: those `done`, and what follows from them; of a bayes sweep as far as
    the predecessors have their `figure`."""
    if sweep["method"] == "grid":
        return next_jobs(sweep, [], MOST_JOBS)
    done = list(done)
    if sweep["method"] == "random":
        return [job for job, _ in done] + next_jobs(sweep, done, sweep.get("run_cap", MOST_JOBS))
    if any(value is None for _, value in done):  # what is under way comes first
        return [job for job, _ in done]
    while batch := next_jobs(sweep, done, 1):
        value = figure(batch[0])
        done.append((batch[0], value))
        if value is None:
            break
    return [job for job, _ in done]


def next_jobs(sweep: dict, done: list[tuple[dict, float | None]], count: int) -> list[dict]:
    """Up to `count` more jobs after those `done` with their figures; in a grid the seed changes last."""
    from diffusion_lab.experiments.search import grid, propose

    count = min(count, sweep.get("run_cap", MOST_JOBS) - len(done))
    if count <= 0:
        return []
    if sweep["method"] == "grid":
        return grid(sweep["parameters"])[len(done) : len(done) + count]
    goal = sweep.get("metric", {}).get("goal", "minimize")
    jobs = []
    while len(jobs) < count:  # one by one, each by the number of those before it
        before = [*done, *((job, None) for job in jobs)]
        jobs += propose(sweep["parameters"], sweep["method"], goal, before, 1)
    return jobs


def as_overrides(job: dict) -> list[str]:
    """A job as Hydra overrides, quoted where Hydra's grammar asks for it."""
    return [f"{key}={hydra_text(value)}" for key, value in job.items()]


def listed_overrides(sweep: dict) -> list[str]:
    """Each value that a parameter lists, as an override."""
    overrides = []
    for key, parameter in sweep["parameters"].items():
        values = [parameter["value"]] if "value" in parameter else parameter.get("values", [])
        overrides += [f"{key}={hydra_text(value)}" for value in values]
    return overrides


def save(sweep: dict, folder: str | Path) -> None:
    """Keep the sweep as it was run, overrides included, as sweep.yaml beside its runs."""
    write_text(Path(folder, "sweep.yaml"), yaml.safe_dump(sweep, sort_keys=False))


def hydra_text(value) -> str:
    """A plain value as the right-hand side of a Hydra override."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(hydra_text, value))}]"
    if isinstance(value, int | float) or re.fullmatch(r"[\w./+:-]+", value, re.ASCII):
        return str(value)
    # a backslash means another one, or a quote, only before a quote and at the end
    return "'" + re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + found[2].replace("'", "\\'"), value) + "'"
