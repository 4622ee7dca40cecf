"""The jobs that a sweep's method proposes: a Cartesian grid of its own, or Optuna's random and Bayesian search.

Parameters are as W&B's sweep files have them. Each proposal follows from the sweep and from what is done, by a seed of its
own, so the same history gives the same jobs.
"""

import itertools
import math
import warnings
from statistics import NormalDist

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import GPSampler, RandomSampler
from optuna.trial import TrialState, create_trial

UNIFORM = FloatDistribution(0.0, 1.0)  # stands for a distribution that Optuna has not: its quantiles
QUANTIZED = ("q_uniform", "q_log_uniform", "q_log_uniform_values", "q_normal", "q_log_normal")

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def grid(parameters: dict) -> list[dict]:
    """Every combination of the parameters' values; the seed changes last.

    Raises:
        ValueError: a parameter has no values to list.
    """
    values = {key: _listed(key, parameter) for key, parameter in parameters.items()}
    jobs = [dict(zip(values, combination, strict=True)) for combination in itertools.product(*values.values())]
    return sorted(jobs, key=lambda job: job.get("seed", 0))


def propose(parameters: dict, method: str, goal: str, done: list[tuple[dict, float | None]], count: int) -> list[dict]:
    """`count` more jobs of a "random" or "bayes" search.

    Args:
        goal: "minimize" or "maximize".
        done: earlier jobs with their figures; infinite or None for those that failed or are not finished.

    Raises:
        ValueError: a parameter is none of W&B's.
    """
    sampled = {key: parameter for key, parameter in parameters.items() if "value" not in parameter}
    distributions = {key: _distribution(key, parameter) for key, parameter in sampled.items()}
    seed = len(done)
    sampler = (
        RandomSampler(seed)
        if method == "random"
        else GPSampler(seed=seed, n_startup_trials=4, deterministic_objective=False)
    )
    study = optuna.create_study(direction=goal, sampler=sampler)
    for job, figure in done if method == "bayes" else ():  # random asks nothing of what was before
        study.add_trial(_trial(job, figure, sampled, distributions))
    jobs = []
    for _ in range(count):
        trial = study.ask(distributions)
        drawn = {key: _value(sampled[key], value) for key, value in trial.params.items()}
        jobs.append({key: parameter.get("value", drawn.get(key)) for key, parameter in parameters.items()})
    return jobs


def check(parameters: dict, method: str) -> None:
    """Raise ValueError for a parameter that is none, or none for this method."""
    for key, parameter in parameters.items():
        if not parameter:
            raise ValueError(f"parameter {key} must say its value: 3, or values: [1, 2], or min: 0, max: 1")
        if method == "grid":
            _listed(key, parameter)
        elif "value" not in parameter and _distribution(key, parameter) is UNIFORM and not _has_ends(parameter):
            raise ValueError(f"parameter {key}: what it would draw is no number")


def _listed(key: str, parameter: dict) -> list:
    if "value" in parameter:
        return [parameter["value"]]
    if parameter.get("values"):
        return parameter["values"]
    raise ValueError(f"parameter {key} needs value or values: method grid takes no distribution")


def _distribution(key: str, parameter: dict) -> BaseDistribution:
    """What Optuna draws for a parameter; `_value` makes of it what W&B means."""
    if "values" in parameter:
        if not parameter["values"]:
            raise ValueError(f"parameter {key}: values must be a list that is not empty")
        if "probabilities" in parameter:
            if len(parameter["probabilities"]) != len(parameter["values"]):
                raise ValueError(f"parameter {key}: as many probabilities as values are needed")
            return UNIFORM
        return CategoricalDistribution(tuple(range(len(parameter["values"]))))
    low, high = parameter.get("min"), parameter.get("max")
    kind = _kind(parameter)
    needs = ("mu", "sigma") if kind.endswith("normal") else ("min", "max")
    if kind.endswith("normal"):
        low, high = parameter.get("mu", 0.0), parameter.get("sigma", 1.0)
    if not all(isinstance(bound, int | float) and math.isfinite(bound) for bound in (low, high)):
        raise ValueError(f"parameter {key}: distribution {kind} needs numbers for {needs[0]} and {needs[1]}")
    if not parameter.get("q", 1) > 0:
        raise ValueError(f"parameter {key}: q {parameter['q']} must be above 0")
    if not kind.endswith("normal") and low >= high:
        raise ValueError(f"parameter {key}: min {low} must be less than max {high}")
    if kind == "int_uniform":
        return IntDistribution(int(low), int(high))
    if kind == "uniform":
        return FloatDistribution(low, high)
    if kind in ("log_uniform_values", "inv_log_uniform_values", "q_log_uniform_values"):
        if low <= 0:
            raise ValueError(f"parameter {key}: distribution {kind} needs min above 0")
        return FloatDistribution(low, high, log=True) if kind == "log_uniform_values" else UNIFORM
    if kind in ("log_uniform", "inv_log_uniform", "normal", "log_normal", *QUANTIZED):
        return UNIFORM
    raise ValueError(f"parameter {key}: {kind} is no distribution of W&B's that is known here")


def _kind(parameter: dict) -> str:
    if "distribution" in parameter:
        return parameter["distribution"]
    whole = all(isinstance(parameter.get(bound), int) for bound in ("min", "max"))
    return "int_uniform" if whole else "uniform"


def _has_ends(parameter: dict) -> bool:
    """Whether the least and the largest value that may be drawn are numbers."""
    if "probabilities" in parameter:
        return True
    try:
        return all(math.isfinite(_value(parameter, share)) for share in (0.0, 1.0))
    except (ArithmeticError, ValueError):  # StatisticsError, as of sigma: 0, is a ValueError
        return False


def _value(parameter: dict, drawn):
    """The parameter's value for what Optuna drew."""
    if "probabilities" in parameter:
        share = np.cumsum(parameter["probabilities"])
        return parameter["values"][int(np.searchsorted(share, drawn * share[-1]).clip(0, len(share) - 1))]
    if "values" in parameter:
        return parameter["values"][drawn]
    kind = _kind(parameter)
    if kind in ("uniform", "int_uniform", "log_uniform_values"):
        return drawn
    value = _quantile(kind.removeprefix("q_"), parameter, drawn)
    if kind in QUANTIZED:
        step = parameter.get("q", 1)
        value = round(value / step) * step
    return value


def _quantile(kind: str, parameter: dict, share: float) -> float:
    if kind.endswith("normal"):
        value = NormalDist(parameter.get("mu", 0.0), parameter.get("sigma", 1.0)).inv_cdf(min(max(share, 1e-9), 1 - 1e-9))
        return math.exp(value) if kind == "log_normal" else value
    low, high = parameter["min"], parameter["max"]
    if kind == "uniform":
        return low + share * (high - low)
    if kind.endswith("_values"):
        low, high = math.log(low), math.log(high)
    exponent = low + share * (high - low)
    return math.exp(-exponent if kind == "inv_log_uniform" else exponent)


def _trial(job: dict, figure: float | None, sampled: dict, distributions: dict) -> optuna.trial.FrozenTrial:
    """An earlier job as Optuna has it."""
    params = {key: _drawn(parameter, distributions[key], job[key]) for key, parameter in sampled.items()}
    finished = figure is not None and math.isfinite(figure)
    state = TrialState.COMPLETE if finished else TrialState.FAIL
    return create_trial(params=params, distributions=distributions, value=figure if finished else None, state=state)


def _drawn(parameter: dict, distribution: BaseDistribution, value):
    """What Optuna drew for a value, or might have."""
    if isinstance(distribution, CategoricalDistribution):
        return parameter["values"].index(value)
    if distribution is not UNIFORM:
        return value
    shares = np.linspace(0.0005, 0.9995, 1000)
    values = [_value(parameter, share) for share in shares]
    if "probabilities" in parameter:
        return float(np.mean([share for share, each in zip(shares, values, strict=True) if each == value] or [0.5]))
    return float(shares[np.abs(np.array(values, dtype=float) - value).argmin()])
