"""Trainings of so many steps or minutes, cut short and gone on with in the middle of an epoch."""

import math
import re
import shutil
from pathlib import Path

import pytest
import torch

from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.commands.train import train
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.hashes import config_hash
from diffusion_lab.experiments.runs import Run
from diffusion_lab.figures import Figure
from diffusion_lab.metrics.scoring import measures
from diffusion_lab.tasks.going_on import shorter_training
from diffusion_lab.training.callbacks import Throughput
from diffusion_lab.training.saving import best_score
from tests.conftest import TINY, UNSCORED, MachineDied, composed

# Everything random: the order, flips, hidden labels, times, noise, dropout. An epoch has five steps.
NETWORK = ("network=adm_unet", "network.width=8", "network.multipliers=[1,2]", "network.blocks=1", "network.attention=[]")
RANDOM = (*NETWORK, "network.head_channels=8", "network.dropout=0.3", "data.flip=true", "learning_rate=constant")
OPTIONS = (*(option for option in TINY if not option.startswith(("network", "epochs"))), *UNSCORED, *RANDOM, "logger=csv")


def trained(folder: Path, *overrides: str) -> Run:
    budget = () if any(option.startswith(("steps=", "minutes=", "epochs=")) for option in overrides) else ("epochs=2",)
    train(composed("train", *OPTIONS, *budget, *overrides), str(folder), is_multirun=False)
    return Run(folder)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Run:
    """Of eight steps, the last of them in the middle of the second epoch."""
    return trained(tmp_path_factory.mktemp("unbroken") / "run", "steps=8")


def same(run: Run, other: Run) -> bool:
    """Whether two trainings ended in the same weights, averages, optimizer and figures, bit for bit."""
    states = [torch.load(each.last_checkpoint, weights_only=True) for each in (run, other)]
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(*(state[part][key] for state in states)) for key in states[0][part]), part
    moments = [state["optimizer_states"][0]["state"] for state in states]
    assert all(torch.equal(kept, moments[1][i][key]) for i in moments[0] for key, kept in moments[0][i].items())
    curves = [
        {row["step"]: row["train/loss_step"] for row in each.curves() if "train/loss_step" in row} for each in (run, other)
    ]
    assert curves[1].items() <= curves[0].items()  # where it was cut short there is one more
    return run.results()["image_loss"] == other.results()["image_loss"]


def test_steps_end_in_the_middle_of_an_epoch_with_all_that_an_end_has(unbroken):
    results = unbroken.results()
    assert (results["steps"], results["epochs"], results["status"]) == (8, round(1 + 96 / 132, 2), "finished")
    assert unbroken.epochs_done() == 2
    assert unbroken.config()["epochs"] is None
    assert load_checkpoint(unbroken.checkpoints / "best.ckpt").state["global_step"] in (5, 8)


@pytest.mark.ci
def test_killed_within_an_epoch_it_ends_as_if_never_killed(unbroken, tmp_path, monkeypatch):
    count = Throughput.on_train_batch_end

    def crash(self, trainer, *rest):
        if trainer.global_step == 8:
            raise MachineDied
        count(self, trainer, *rest)

    with monkeypatch.context() as patched, pytest.raises(MachineDied):
        patched.setattr(Throughput, "on_train_batch_end", crash)
        trained(tmp_path / "run", "steps=8", "checkpoints.every_steps=7")
    assert load_checkpoint(Run(tmp_path / "run").last_checkpoint).state["global_step"] == 7
    assert same(trained(tmp_path / "run", "steps=8"), unbroken)


def test_killed_while_it_is_scored_it_takes_no_further_step(unbroken, tmp_path):
    run = Run(shutil.copytree(unbroken.folder, tmp_path / "run"))
    (run.folder / "results.json").unlink()
    assert same(trained(run.folder, "steps=8"), unbroken)
    assert run.results()["steps"] == 8


def test_a_begun_epoch_is_not_behind(unbroken):
    """After 1.73 epochs, two are more; after one whole epoch, one is not."""
    config = {**unbroken.config(), "steps": None, "resume_from": str(unbroken.last_checkpoint)}
    assert shorter_training({**config, "epochs": 2}).state["global_step"] == 8
    with pytest.raises(UserError, match="has 1 epochs behind it: take more than epochs=1"):
        shorter_training({**config, "epochs": 1})


@pytest.mark.ci
def test_a_longer_training_goes_on_within_the_epoch(unbroken, tmp_path):
    shorter = trained(tmp_path / "shorter", "steps=3")
    assert same(trained(tmp_path / "longer", "steps=8", f"resume_from={shorter.folder}"), unbroken)


@pytest.mark.parametrize("beside", ["the same", "a later one"])
def test_the_best_of_a_longer_training_is_that_of_its_whole_curve(beside, unbroken, tmp_path, monkeypatch):
    """Here that of the shorter one, whose errors nothing undercuts; unless what lies beside it is not its best any more."""
    shorter = Run(tmp_path / "shorter")
    shutil.copytree(unbroken.folder, shorter.folder)
    for name, score in (("last.ckpt", 0.0), ("best.ckpt", 0.0 if beside == "the same" else -1.0)):
        state = torch.load(shorter.checkpoints / name, weights_only=True)
        [kept] = [each for each in state["callbacks"].values() if each.get("monitor") == "val/image_loss"]
        kept["best_model_score"] = torch.tensor(score)
        torch.save(state, shorter.checkpoints / name)
    best, folder = (shorter.checkpoints / "best.ckpt").read_bytes(), tmp_path / "longer"

    def crash(self, trainer, *rest):
        raise MachineDied

    with monkeypatch.context() as patched, pytest.raises(MachineDied):
        patched.setattr(Throughput, "on_train_batch_end", crash)
        trained(folder, "steps=10", f"resume_from={shorter.folder}")
    longer = trained(folder, "steps=10", f"resume_from={shorter.folder}")
    assert longer.results()["steps"] == 10
    assert ((longer.checkpoints / "best.ckpt").read_bytes() == best) == (beside == "the same")


def test_minutes_end_a_training_and_its_learning_rate_is_fitted_to_them(tmp_path):
    run = trained(tmp_path / "run", "minutes=0.04", "learning_rate=warmup_cosine", "trainer.log_every_n_steps=1")
    assert 2.4 <= run.results()["fit_seconds"] < 60  # a busy machine's held-out errors included
    rates = [row["lr-Muon/pg1"] for row in run.curves() if "lr-Muon/pg1" in row]
    assert rates[-1] < max(rates) / 2
    assert run.results()["steps"] == len(rates)
    assert any("train/gradient_norm" in row for row in run.curves())


def test_early_stop_ends_what_no_longer_gets_better(tmp_path):
    words = ("epochs=9", "early_stop=val/image_loss", "patience=1", "optimizer.lr=1e-12", "accumulate=3")
    results = trained(tmp_path / "run", *words).results()
    assert (results["epochs"], results["steps"]) == (2, 4)  # of five batches, two steps an epoch


@measures(Figure("charm", "charm", less_is_better=False, depends_on=("samples",), curve=True))
def charm(scoring) -> dict[str, float]:
    """What nobody else measures; it is best the second time."""
    charm.asked += 1
    return {"charm": (1.0, 3.0, 2.0, 2.5)[min(charm.asked, 4) - 1]}


CHARM = (f"+metrics.figures.charm._target_={__name__}.charm", "+metrics.figures.charm._partial_=true", "epochs=8")


@pytest.mark.parametrize("every", [1, 2])
def test_any_figure_chooses_the_best_checkpoint_and_ends_a_training(every, tmp_path):
    charm.asked = 0
    words = (f"metrics.every_n_epochs={every}", "monitor=val/charm", "early_stop=val/charm", "patience=2")
    run = trained(tmp_path / "run", *CHARM, *words)
    assert run.results()["epochs"] == 2 * every + 2
    states = [torch.load(run.checkpoints / f"{name}.ckpt", weights_only=True) for name in ("best", "last")]
    assert [state["epoch"] + 1 for state in states] == [2 * every, 2 * every + 2]
    assert best_score(states[0], "val/charm") == 3
    curve = [row["val/charm"] for row in run.curves() if "val/charm" in row]
    assert curve == [1, 3, 2, 2.5][: 2 + 2 // every]


def test_an_epoch_without_the_figure_has_none(tmp_path, capsys):
    """Lightning keeps the last value: what resumes would not have it, and stop later than what was never killed."""
    charm.asked = 0
    words = ("metrics.every_n_epochs=3", "early_stop=val/charm", "patience=5")
    trained(tmp_path / "run", *CHARM, *words)
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ") and "val/charm" in line]
    assert [line.split()[1] for line in shown] == ["3", "6"]


def test_best_of_what_is_no_curve_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit):
        trained(tmp_path / "run", *CHARM, "metrics.every_n_epochs=1", "monitor=val/kid")
    known = "val/image_loss, val/noise_loss, val/charm"
    said = f"error: monitor=val/kid is no curve of metrics/figures=[errors,charm]: take one of {known}"
    assert said in capsys.readouterr().err


def test_checkpoints_of_some_epochs_stay_and_change_nothing(unbroken, tmp_path):
    run = trained(tmp_path / "run", "steps=8", "checkpoints.keep_every_epochs=1")
    kept = {file.name for file in run.checkpoints.glob("*.ckpt")} - {"last.ckpt", "previous.ckpt", "best.ckpt"}
    assert kept == {"epoch_0001.ckpt"}  # the second epoch is cut short
    found = load_checkpoint(run.checkpoints / "epoch_0001.ckpt")
    assert (found.state["global_step"], found.averaged) == (5, True)
    assert config_hash(run.config()) == config_hash(unbroken.config())
    assert same(run, unbroken)


@pytest.mark.parametrize("budget", ["steps=8", "minutes=1"])
def test_epochs_beside_it_are_refused(budget, tmp_path, capsys):
    with pytest.raises(SystemExit):
        trained(tmp_path / "run", "epochs=3", budget)
    assert f"error: epochs=3 and {budget} do not go together" in capsys.readouterr().err


@pytest.mark.ci
def test_steps_go_on_from_minutes_at_the_rate_of_their_own_schedule(tmp_path):
    shorter = trained(tmp_path / "shorter", "minutes=0.03", "learning_rate=warmup_cosine", "trainer.log_every_n_steps=1")
    done = shorter.results()["steps"]
    whole = ("learning_rate=warmup_cosine", "trainer.log_every_n_steps=1", f"steps={done + 6}")
    rates = [
        row["lr-Muon/pg1"]
        for row in trained(tmp_path / "longer", *whole, f"resume_from={shorter.folder}").curves()
        if "lr-Muon/pg1" in row
    ]
    unbroken = [row["lr-Muon/pg1"] for row in trained(tmp_path / "unbroken", *whole).curves() if "lr-Muon/pg1" in row]
    assert rates[-6:] == pytest.approx(unbroken[-6:])
    assert rates[-6] > 0


@pytest.mark.slow
def test_minutes_go_on_from_epochs_at_the_rate_of_their_own_schedule(tmp_path, caplog):
    """That of the share of the minutes that the epochs took, not of the epochs, after which the rate was next to nothing."""
    options = ("learning_rate=warmup_cosine", "trainer.log_every_n_steps=1")
    shorter = trained(tmp_path / "shorter", "epochs=1", *options)
    minutes = 2 * shorter.results()["fit_seconds"] / 60
    with caplog.at_level("INFO"):
        longer = trained(tmp_path / "longer", f"minutes={minutes}", *options, f"resume_from={shorter.folder}")
    [said] = re.findall(r"learning rate: (\S+) from here, as its schedule over .* min has it after (\d+) %", caplog.text)
    rate, share = float(said[0]), int(said[1]) / 100
    assert 0.49 <= share < 0.75  # its own start costs some time
    first = next(row["lr-Muon/pg1"] for row in longer.curves() if row["step"] == 5 and "lr-Muon/pg1" in row)
    assert first == pytest.approx(rate, rel=0.005)
    config = longer.config()
    peak, warmup = config["optimizer"]["lr"], config["learning_rate"]["warmup"]
    expected = [peak * (1 + math.cos(math.pi * (at - warmup) / (1 - warmup))) / 2 for at in (share + 0.01, share - 0.01)]
    assert expected[0] <= rate <= expected[1]
    assert longer.results()["fit_seconds"] >= 60 * minutes
