"""Proposals against the distributions that they are to have, and a search against drawing at random."""

import itertools
import math
import statistics

import numpy as np
import pytest
from scipy import stats

from diffusion_lab.experiments.search import grid, propose


def random_values(parameter: dict, count: int = 300) -> list:
    jobs = propose({"x": parameter}, "random", "minimize", [], count)
    return [job["x"] for job in jobs]


CASES = {
    "uniform": ({"min": 2.0, "max": 5.0}, stats.uniform(2, 3)),
    "log_uniform_values": (
        {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1},
        stats.loguniform(1e-4, 1e-1),
    ),
    "log_uniform": ({"distribution": "log_uniform", "min": -3, "max": 2}, stats.loguniform(math.exp(-3), math.exp(2))),
    "normal": ({"distribution": "normal", "mu": 3, "sigma": 2}, stats.norm(3, 2)),
    "log_normal": ({"distribution": "log_normal", "mu": 1, "sigma": 0.5}, stats.lognorm(0.5, scale=math.e)),
}


@pytest.mark.parametrize("name", CASES)
def test_continuous_parameters_have_their_distribution(name):
    parameter, expected = CASES[name]
    assert stats.kstest(random_values(parameter), expected.cdf).pvalue > 0.01


def test_inverse_log_uniform_is_that_of_the_inverse():
    parameter = {"distribution": "inv_log_uniform_values", "min": 2.0, "max": 50.0}
    values = np.array(random_values(parameter))
    assert stats.kstest(1 / values, stats.loguniform(1 / 50, 1 / 2).cdf).pvalue > 0.01


def test_whole_and_quantized_parameters():
    whole = random_values({"min": 1, "max": 4})
    assert set(whole) == {1, 2, 3, 4}
    assert stats.chisquare(np.bincount(whole)[1:]).pvalue > 0.01
    steps = random_values({"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.25})
    assert {round(value, 9) for value in steps} == {0, 0.25, 0.5, 0.75, 1}


def test_listed_values_come_as_often_as_they_should():
    counts = np.unique(random_values({"values": ["a", "b", "c"]}), return_counts=True)[1]
    assert stats.chisquare(counts).pvalue > 0.01
    weighted = random_values({"values": ["a", "b"], "probabilities": [0.8, 0.2]}, 500)
    assert stats.binomtest(weighted.count("a"), 500, 0.8).pvalue > 0.01


def test_a_grid_is_the_product_and_the_seed_changes_last():
    parameters = {"seed": {"values": [0, 1]}, "loss": {"values": ["mae", "mse"]}, "epochs": {"value": 3}}
    jobs = grid(parameters)
    expected = [(seed, loss, 3) for seed, loss in itertools.product([0, 1], ["mae", "mse"])]
    assert [tuple(job.values()) for job in jobs] == expected


def best_of(method: str, goal: str, start: int) -> float:
    """The best value of a parabola that 12 proposals find; jobs that failed before `start` make each start another."""
    sign = 1 if goal == "minimize" else -1
    parameters = {"x": {"min": -10.0, "max": 10.0}, "y": {"min": -10.0, "max": 10.0}}
    done = [({"x": 10.0 - i, "y": 10.0}, math.inf) for i in range(start)]
    for _ in range(12):
        job = propose(parameters, method, goal, done, 1)[0]
        done.append((job, sign * ((job["x"] - 3) ** 2 + (job["y"] + 2) ** 2)))
    return min(sign * value for _, value in done[start:])


@pytest.mark.parametrize("goal", ["minimize", "maximize"])
def test_a_search_learns_from_what_is_done(goal):
    found = {method: statistics.median(best_of(method, goal, start) for start in range(3)) for method in ("random", "bayes")}
    assert found["bayes"] < 0.7 * found["random"]
