"""A picture of how well a classifier reads images under more and more noise."""

import torch
from matplotlib.figure import Figure
from torch import nn


def accuracy_figure(accuracy_by_time: dict[str, float], schedule: nn.Module, num_classes: int) -> Figure:
    """Accuracy against time, with the sigma = noise_rate / signal_rate of each time, and what guessing would reach.

    Args:
        accuracy_by_time: time in [0, 1], as a string, to the share of images read right there.
        schedule: gives the rates at those times.
        num_classes: that guessing chooses from.
    """
    times = [float(time) for time in accuracy_by_time]
    signal_rate, noise_rate = schedule.cpu()(torch.tensor(times, dtype=torch.float64))
    figure = Figure(figsize=(7, 4), dpi=130, layout="constrained")
    axis = figure.subplots()
    axis.plot(times, list(accuracy_by_time.values()), "o-", label="held-out images")
    axis.axhline(1 / num_classes, color="black", linestyle="--", linewidth=1, label=f"guessing: 1 / {num_classes}")
    axis.set_xticks(times, [f"{time:g}\n{sigma:.2g}" for time, sigma in zip(times, noise_rate / signal_rate, strict=True)])
    axis.set_ylim(0, 1.02)
    axis.set_xlabel("time, and below it sigma = noise rate / signal rate", fontsize=9)
    axis.set_ylabel("accuracy", fontsize=9)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=9, frameon=False)
    return figure
