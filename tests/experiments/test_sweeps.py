"""Sweep files: W&B's own checks, the jobs they mean, and the way back through Hydra's grammar."""

import random
import time

import numpy as np
import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args, load_sweep_config

from diffusion_lab.errors import UserError
from diffusion_lab.experiments import sweeps
from tests.conftest import PROJECT, composed

FILES = sorted((PROJECT / "sweeps").rglob("*.yaml"))
BAYES = {
    "program": "src/train.py",
    "method": "bayes",
    "run_cap": 12,
    "metric": {"name": "kid", "goal": "minimize"},
    "parameters": {"optimizer.lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1}, "epochs": {"value": 2}},
}


@pytest.mark.parametrize(
    ("name", "jobs"), [("quick", 8), ("reference_flowers", 24), ("reference_pets", 24), ("recipes/recipe_digits", 12)]
)
def test_shipped_grids(name, jobs):
    sweep = sweeps.load(PROJECT / f"sweeps/{name}.yaml")
    known = sweeps.known_jobs(sweep, lambda job: None)
    assert sweeps.job_count(sweep) == len(known) == len({str(job) for job in known}) == jobs
    assert [job["seed"] for job in known] == sorted(job["seed"] for job in known)  # each cell has a figure early


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_shipped_files_pass_wandbs_own_reading_and_compose(file):
    assert load_sweep_config(str(file)) == sweeps.load(file)
    sweep = sweeps.load(file)
    job = sweeps.next_jobs(sweep, [], 1)[0]
    cfg = composed(file.stem if file.stem == "evaluate" else sweep["program"][4:-3], *sweeps.as_overrides(job))
    assert cfg.name == file.stem == job["name"]
    objective = cfg.objective or composed("train").objective  # an evaluation's is that of its checkpoint
    assert objective == sweep["metric"]["name"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_wandbs_agent_types_the_same_overrides(file):
    sweep = sweeps.load(file)
    job = sweeps.next_jobs(sweep, [], 1)[0]
    typed = create_sweep_command_args({"args": {key: {"value": value} for key, value in job.items()}})
    assert sorted(typed["args_no_hyphens"]) == sorted(sweeps.as_overrides(job))
    command = sweep["command"][sweep["command"].index("${args_no_hyphens}") :]
    assert "logger.mode=online" in command  # else the agent's server would never see the metric
    composed(sweep["program"][4:-3], *typed["args_no_hyphens"], *command[1:])


@pytest.mark.parametrize(
    "value",
    [
        *(3, 1e-05, 0.1, True, None, "mae", "", "a b", "it's", "a=b,c", "../x/y.ckpt", "~/d", "[x", "ä{", [1, "a b"]),
        *("ä", "a\\b'", "'\\", "\n"),
    ],
)
def test_values_come_back_through_hydras_grammar(value):
    (text,) = sweeps.as_overrides({"key": value})
    parsed = OverridesParser.create().parse_override(text).value()
    assert ([_unquoted(item) for item in parsed] if isinstance(parsed, list) else _unquoted(parsed)) == value


def _unquoted(parsed):
    return getattr(parsed, "text", parsed)


def test_overrides_replace_parameters_of_the_file():
    sweep = sweeps.load(PROJECT / "sweeps/quick.yaml")
    sweep = sweeps.with_overrides(sweep, ["seed=0,1,2", "loss=mse", "data.root='/a b/c'", "epochs=3"])
    jobs = sweeps.known_jobs(sweep, lambda job: None)
    assert len(jobs) == 2 * 3
    assert {job["loss"] for job in jobs} == {"mse"}
    assert {(job["epochs"], job["data.root"]) for job in jobs} == {(3, "/a b/c")}


def test_bayes_goes_on_from_the_figures_it_has_and_finds_the_best():
    sweep, done = BAYES, []
    while batch := sweeps.next_jobs(sweep, done, 1):
        done.append((batch[0], float(np.log10(batch[0]["optimizer.lr"] / 3e-3) ** 2)))
    assert len(done) == 12
    assert min(figure for _, figure in done) < 0.02  # within a factor of 1.4 of the best rate, of three decades
    random.random()
    np.random.random()  # whatever was drawn in between
    known = sweeps.known_jobs(sweep, lambda job: {str(j): f for j, f in done[:5]}.get(str(job)))
    assert known == [job for job, _ in done[:6]]  # five are done, the sixth follows from them, the rest are not known
    assert sweeps.job_count(sweep) == 12


def test_a_failed_job_does_not_stop_a_search():
    first = sweeps.next_jobs(BAYES, [], 1)
    assert len(sweeps.next_jobs(BAYES, [(first[0], float("inf"))], 2)) == 2


def test_random_jobs_are_the_same_each_time():
    sweep = {**BAYES, "method": "random"}
    jobs = sweeps.known_jobs(sweep, lambda job: None)
    assert len({job["optimizer.lr"] for job in jobs}) == 12
    assert jobs == sweeps.known_jobs(sweep, lambda job: None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "guess"}, "'guess' is not one of grid, random, bayes"),
        ({"parameters": None}, "has no `parameters`"),
        ({"parameters": {"seed": 0}}, r"parameters\.seed is not as in W&B's sweep files: Input should be a valid dict"),
        ({"parameters": {"seed": {}}}, "parameter seed must say its value: 3, or values"),
        ({"parameters": {5: {"value": 1}}}, r"parameters\.5 is not as in"),
        ({"parameters": {"a b": {"value": 1}}}, r"parameters\.a b is not as in"),
        ({"parameters": {"x": {"distribution": ["uniform"], "min": 0, "max": 1}}}, r"parameters\.x\.distribution is not"),
        ({"parameters": {"x": {"values": [{"a": 1}]}}}, r"parameters\.x\.values\.0.* is not as in"),
        ({"metric": ["kid"]}, "metric is not as in"),
        ({"parameters": {"trusted": {"value": ["joblib"]}}}, "trusted is not for a file to say"),
        ({"parameters": {"network._target_": {"value": "os.mkdir"}}}, "_target_ is not for a file to say"),
        ({"parameters": {"hydra.run.dir": {"value": "elsewhere"}}}, "hydra.run.dir is not for a file to say"),
        ({"parameters": {"out": {"value": "elsewhere"}}}, "out is not for a file to say"),
        ({"parameters": {"data.cache_dir": {"value": "elsewhere"}}}, "data.cache_dir is not for a file to say"),
        ({"parameters": {"network._args_": {"value": [1]}}}, "_args_ is not for a file to say"),
        (
            {"parameters": {"loss": {"values": [["${oc.env:HOME}"]]}}},
            r"holds '\$\{oc.env:HOME\}': nothing in a file is resolved",
        ),
        ({"parameters": {"${seed}": {"value": 1}}}, r"parameters\.\$\{seed\} is not as in"),
        ({"metric": {"name": "${seed}"}}, "nothing in a file is resolved"),
        ({"run_cap": 10**12}, "asks for more than 10000 jobs"),
        ({"method": "grid", "parameters": {key: {"values": [0] * 100} for key in "abc"}}, "asks for more than 10000 jobs"),
        ({"parameters": {"x": {"min": 0.0, "max": 1e308}}}, "holds a number beyond 1e[+]39"),
        ({"parameters": {"x": {"distribution": "normal", "sigma": 0}}}, "x: what it would draw is no number"),
        ({"parameters": {"x": {"distribution": "log_uniform", "min": 0, "max": 1000}}}, "what it would draw is no number"),
        ({"method": "grid"}, "method grid takes no distribution"),
        ({"metric": None}, "method bayes needs a metric"),
        ({"metric": {"name": "kid", "goal": "best"}}, "minimize or maximize"),
        ({"run_cap": -1}, "must be a whole number above 0"),
        ({"parameters": {"x": {"distribution": "q_uniform", "min": 1, "max": 2, "q": 0}}}, "q 0 must be above 0"),
        ({"parameters": {"x": {"min": 2, "max": 1}}}, "min 2 must be less than max 1"),
        ({"parameters": {"x": {"distribution": "cauchy", "min": 0, "max": 1}}}, "cauchy is no distribution"),
        ({"parameters": {"x": {"distribution": "log_uniform_values", "min": 0, "max": 1}}}, "min above 0"),
        ({"program": None}, "has no `program`"),
        ({"run_cap": None}, "give run_cap"),
        ({"early_terminate": {"type": "hyperband"}}, "needs min_iter, or max_iter and s"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 0}}, "min_iter: 0 must be a whole number, at least 1"),
        ({"early_terminate": {"type": "envelope"}}, "with type: hyperband"),
    ],
)
def test_bad_files_get_one_line(tmp_path, change, message):
    sweep = {key: value for key, value in {**BAYES, **change}.items() if value is not None}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    with pytest.raises(UserError, match=message):
        sweeps.load(tmp_path / "sweep.yaml")


def test_missing_or_broken_files_get_one_line(tmp_path):
    with pytest.raises(UserError, match="is not a file"):
        sweeps.load(tmp_path / "none.yaml")
    hostile = "{program: src/train.py, method: grid, parameters: {loss: {values: "
    for content in (b"a: [", b"\xff\xfe\xfa", f"{hostile}!!python/object/apply:os.getcwd []}}}}}}".encode(), b"[" * 5000):
        (tmp_path / "broken.yaml").write_bytes(content)
        with pytest.raises(UserError, match="is not YAML") as caught:
            sweeps.load(tmp_path / "broken.yaml")
        assert "\n" not in str(caught.value)
    tens = "".join(f"x{i}: &x{i} [{','.join([f'*x{i - 1}'] * 10)}]\n" for i in range(1, 9))  # a billion in eight lines
    bomb = f"x0: &x0 0\n{tens}program: src/train.py\nmethod: grid\nparameters: {{loss: {{value: *x8}}}}"
    for content in (f"{hostile}&a [*a]}}}}}}", bomb):
        (tmp_path / "broken.yaml").write_text(content)
        with pytest.raises(UserError, match="is no sweep file: it holds more than 100000 values"):
            sweeps.load(tmp_path / "broken.yaml")


def test_a_files_name_is_not_resolved(tmp_path):
    file = tmp_path / "${oc.env:HOME}.yaml"
    file.write_text(yaml.safe_dump(BAYES))
    with pytest.raises(UserError, match=r"its path holds \$\{"):
        sweeps.load(file)


def test_many_random_jobs_take_no_time_for_each_other():
    sweep = {**BAYES, "method": "random", "run_cap": 300}
    begun = time.process_time()
    assert len(sweeps.known_jobs(sweep, lambda job: None)) == 300
    assert time.process_time() - begun < 3
