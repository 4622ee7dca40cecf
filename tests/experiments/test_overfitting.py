import pytest

from diffusion_lab.experiments.overfitting import alarms


def rows(held_out: list[float], train: list[float], monitor: str = "val/image_loss") -> list[dict]:
    """As metrics.csv has them: each in a row of its own, and others between."""
    found = []
    for theirs, ours in zip(held_out, train, strict=True):
        found += [{"step": 1, "train/loss_step": 9.0}, {"step": 2, monitor: theirs}, {"step": 2, "train/loss_epoch": ours}]
    return found


FALLING = [1 - 0.05 * i for i in range(10)]
UP = [0.9, 0.7, 0.6, 0.5, 0.51, 0.53, 0.55, 0.57, 0.59, 0.61]


def test_a_curve_that_turns_up_is_noticed():
    [said] = alarms(rows(UP, FALLING), "val/image_loss")
    assert "val/image_loss was best after epoch 4 of 10 (0.5), and is 0.61 now" in said
    assert "the training loss fell from 0.85 to 0.55" in said


def test_so_is_an_accuracy_that_falls():
    [said] = alarms(rows([1 - value for value in UP], FALLING, "val/accuracy"), "val/accuracy")
    assert "best after epoch 4 of 10 (0.5), and is 0.39 now" in said


@pytest.mark.parametrize(
    ("held_out", "train"),
    [
        (FALLING, FALLING),
        (UP, [0.5] * 3 + [0.6] * 7),  # the training loss rises as well: that is no overfitting
        ([0.9, 0.7, 0.6, 0.5, 0.505, 0.5, 0.508, 0.501, 0.505, 0.504], FALLING),  # within a hundredth of the best
        ([0.9, 0.5, 0.6, 0.51, 0.61, 0.52, 0.6, 0.5, 0.62, 0.55], FALLING),  # jumps about
        (UP[:6], FALLING[:6]),  # too soon to say
        ([], []),
    ],
)
def test_what_is_no_overfitting_is_not_said_to_be(held_out, train):
    assert not list(alarms(rows(held_out, train), "val/image_loss"))
