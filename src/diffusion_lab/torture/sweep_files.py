"""Sweep files: W&B's schema, bent."""

import copy
from pathlib import Path
from random import Random

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from diffusion_lab.commands.sweep import command_line
from diffusion_lab.experiments import sweeps
from diffusion_lab.torture.folders import flipped
from diffusion_lab.torture.trial import CANARY, Outcome, tried

SOUND = {
    "program": "src/train.py",
    "method": "grid",
    "metric": {"name": "kid", "goal": "minimize"},
    "run_cap": 4,
    "early_terminate": {"type": "hyperband", "min_iter": 1},
    "parameters": {
        "loss": {"values": ["mae", "mse"]},
        "optimizer.lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
        "epochs": {"value": 1},
        "batch_size": {"distribution": "q_uniform", "min": 8, "max": 64, "q": 8},
    },
}
ODD = (
    *(None, True, -1, 0, 3.5, float("nan"), float("inf"), 2**70, "", "xyz", "${oc.env:HOME}"),
    *([], [[]], [None], {}, {"a": {}}),
    *({"values": []}, {"min": 2, "max": 1}, {"distribution": "nosuch"}, {"values": [1, "a", None]}, {"value": {"x": 1}}),
)
HOSTILE = ("!!python/object/apply:os.system ['touch $" + CANARY + "']", "&a [*a]", "/bin/sh", "{_target_: os.system}")


def try_one(random: Random) -> Outcome:
    """Read a sweep file and find its first jobs."""
    text = _text(random)
    return tried(text.replace("\n", "; ")[:200], lambda folder: _read(folder, text))


def _read(folder: Path, text: str) -> None:
    file = folder / "sweep.yaml"
    file.write_text(text, encoding="utf-8")
    _, arguments = command_line(str(file), [], dry_run=True)
    sweep = sweeps.load(file)
    jobs = sweeps.next_jobs(sweep, [], 5)
    for words in (arguments[1:], *map(sweeps.as_overrides, jobs)):
        OverridesParser.create().parse_overrides(words)  # what is made of the file is what Hydra reads
    sweeps.job_count(sweep)


def _text(random: Random) -> str:
    sweep = copy.deepcopy(SOUND)
    sweep["method"] = random.choice(("grid", "random", "bayes"))
    for _ in range(random.choice((0, 1, 1, 2, 3))):
        node = random.choice((sweep, sweep, sweep["metric"], sweep["parameters"], *sweep["parameters"].values()))
        if isinstance(node, dict):
            node[random.choice((*node, "more", "optimizer.lr", 5))] = random.choice(ODD)
        if not isinstance(sweep.get("metric"), dict) or not isinstance(sweep.get("parameters"), dict):
            break
    text = yaml.safe_dump(sweep)
    if random.random() < 0.15:
        text = text.replace("mae", random.choice(HOSTILE))
    if random.random() < 0.15:
        text = flipped(text.encode(), random).decode("latin-1")
    return text[: random.randrange(len(text))] if random.random() < 0.1 else text
