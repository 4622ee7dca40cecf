"""Whether a training learns its images by heart: held-out errors rise while the training loss still falls."""

from collections.abc import Iterator
from itertools import pairwise
from statistics import median

from diffusion_lab.figures import FIGURES

FEWEST = 4  # epochs after the best one
LEAST = 0.02  # rise, as a share of the best value


def alarms(rows: list[dict], monitor: str) -> Iterator[str]:
    """A sentence where the curve `monitor` of metrics.csv has turned up for good, which is: for epochs by more than LEAST,
    and than three times what it changes by from one epoch to the next, while the training loss went on falling."""
    figure = FIGURES.get(monitor.removeprefix("val/"))
    sign = 1 if figure is None or figure.less_is_better else -1
    held_out = [sign * row[monitor] for row in rows if monitor in row]
    train = [row["train/loss_epoch"] for row in rows if "train/loss_epoch" in row]
    if len(held_out) != len(train) or len(held_out) <= FEWEST:
        return
    best = min(range(len(held_out)), key=held_out.__getitem__)
    after = held_out[best:]
    if len(after) <= FEWEST:
        return
    rise = median(after[-3:]) - after[0]
    change = median(abs(later - earlier) for earlier, later in pairwise(after))
    if rise > max(LEAST * abs(after[0]), 3 * change) and median(train[-3:]) < train[best]:
        yield (
            f"overfitting: {monitor} was best after epoch {best + 1} of {len(held_out)} ({sign * after[0]:.4g}), and is "
            f"{sign * after[-1]:.4g} now, while the training loss fell from {train[best]:.4g} to {train[-1]:.4g}. best.ckpt "
            f"is of the best epoch; early_stop={monitor} ends a training there"
        )
