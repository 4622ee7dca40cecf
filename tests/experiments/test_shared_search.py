"""A search in a folder: two that share it, one that was killed, a journal that broke off, and runs stopped early."""

import json

import optuna
import pytest

from diffusion_lab.experiments import sweeps
from diffusion_lab.experiments.shared_search import RunningTrial, SharedSearch, done_before, pruner

SWEEP = {
    "program": "src/train.py",
    "method": "bayes",
    "run_cap": 6,
    "metric": {"name": "kid", "goal": "minimize"},
    "parameters": {"optimizer.lr": {"min": 0.0, "max": 1.0}, "epochs": {"value": 2}},
}


def jobs_of(claims) -> list[dict]:
    return [claim.job for claim in claims]


def test_two_share_a_search_and_what_one_left_is_taken_up(tmp_path):
    one, other = SharedSearch(SWEEP, tmp_path), SharedSearch(SWEEP, tmp_path)
    first, second = one.claim(1), other.claim(2)
    assert len({str(job) for job in jobs_of(first + second)}) == 3
    one.settle(first[0], 0.5, "finished")
    for claim in second:
        claim.lock.release()  # as a kill does
    third = SharedSearch(SWEEP, tmp_path)
    again = third.claim(2)
    assert jobs_of(again) == jobs_of(second)
    assert done_before(SWEEP, tmp_path) == [(first[0].job, 0.5), *((job, None) for job in jobs_of(second))]
    rest = one.claim(9)
    assert len(rest) == 3  # six in all
    assert not third.claim(1)


def test_alone_it_proposes_what_is_listed_before_it_runs(tmp_path):
    listed = sweeps.known_jobs({**SWEEP, "method": "random"}, lambda job: None)
    search, run = SharedSearch({**SWEEP, "method": "random"}, tmp_path), []
    while claims := search.claim(2):
        for claim in claims:
            run.append(claim.job)
            search.settle(claim, claim.job["optimizer.lr"], "finished")
        assert sweeps.known_jobs(search.sweep, lambda job: None, done_before(search.sweep, tmp_path)) == listed
    assert run == listed


def test_what_failed_is_replaced_in_another_session_and_not_in_this_one(tmp_path):
    search = SharedSearch(SWEEP, tmp_path)
    for claim in search.claim(6):
        search.settle(claim, None, "failed")
    assert not search.claim(1)
    assert len(SharedSearch(SWEEP, tmp_path).claim(9)) == 6
    grid = {**SWEEP, "method": "grid", "parameters": {"loss": {"values": ["mae", "mse"]}}}
    search = SharedSearch(grid, tmp_path)
    claims = search.claim(9)
    search.settle(claims[0], None, "failed")
    search.settle(claims[1], 1.0, "finished")
    assert jobs_of(SharedSearch(grid, tmp_path).claim(9)) == [{"loss": "mae"}]


def test_another_sweep_in_the_folder_is_another_search(tmp_path):
    SharedSearch(SWEEP, tmp_path).claim(1)
    other = {**SWEEP, "parameters": {"optimizer.lr": {"min": 1.0, "max": 2.0}}}
    assert done_before(other, tmp_path) == []
    assert SharedSearch(other, tmp_path).claim(1)[0].job["optimizer.lr"] >= 1


def test_a_journal_that_broke_off_in_a_line_goes_on(tmp_path):
    held = SharedSearch(SWEEP, tmp_path).claim(2)
    file = tmp_path / "search/journal.log"
    whole = file.read_text()
    assert all(json.loads(line) for line in whole.splitlines())
    file.write_text(whole + '{"op_code": 4, "trial')
    claims = SharedSearch(SWEEP, tmp_path).claim(9)
    assert len(claims) == 6 - len(held)
    assert all(json.loads(line) for line in file.read_text().splitlines())


@pytest.mark.parametrize("goal", ["minimize", "maximize"])  # of the metric: the curve is an error all the same
def test_a_trial_far_behind_is_stopped_at_the_rungs(tmp_path, goal):
    sweep = {
        **SWEEP,
        "metric": {"name": "kid", "goal": goal},
        "early_terminate": {"type": "hyperband", "min_iter": 2, "eta": 2},
    }
    search = SharedSearch(sweep, tmp_path)
    stopped_after = {}
    for claim, level in zip(search.claim(6), (1.0, 2.0, 0.5, 3.0, 0.4, 0.9), strict=True):
        trial = RunningTrial(str(search.file), search.study.study_name, claim.number)
        stops = (epoch for epoch in range(1, 9) if trial.is_to_stop(epoch, level / epoch))
        stopped_after[level] = next(stops, None)
    # Successive halving: after epochs 2, 4 and 8 the better half of those that came so far goes on.
    # 0.9 is the third of six at epoch 2, and the third of four at epoch 4.
    assert stopped_after == {1.0: None, 2.0: 2, 0.5: None, 3.0: 2, 0.4: None, 0.9: 4}


def test_brackets_are_those_of_wandb():
    """https://docs.wandb.ai: min_iter 3, eta 3: 3, 9, 27...; max_iter 27, s 2: 9 and 3 (there 27/3, 27/9)."""
    assert pruner({"min_iter": 3})._min_resource == pruner({"max_iter": 27, "s": 2})._min_resource == 3
    assert pruner({"min_iter": 3})._reduction_factor == 3


def test_a_stopped_trial_is_pruned_and_stays_so(tmp_path):
    search = SharedSearch(SWEEP, tmp_path)
    (claim,) = search.claim(1)
    search.settle(claim, None, "stopped early")
    assert search.study.trials[0].state == optuna.trial.TrialState.PRUNED
    assert len(SharedSearch(SWEEP, tmp_path).claim(9)) == 5
