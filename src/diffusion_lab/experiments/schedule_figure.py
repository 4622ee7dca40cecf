"""One figure that compares noise schedules: their curves, and an image dissolving under each."""

import math

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from torch import Tensor, nn
from torchvision.utils import make_grid

from diffusion_lab.experiments.pictures import READABLE, dissolve
from diffusion_lab.process.schedules import log_snr
from diffusion_lab.process.seeds import noise_of_images
from diffusion_lab.spaces.pixels import over_white
from diffusion_lab.spaces.space import Space

COLOURS = (  # neighbours differ most, for their lines are the closest
    *("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:cyan"),
    *("tab:pink", "tab:gray", "tab:olive", "tab:brown", "black", "gold"),
)
TIMES = ("0", "1/8", "1/4", "3/8", "1/2", "5/8", "3/4", "7/8", "1")
HIGHEST_NOISE_RATE = 1.2  # that is drawn: most schedules stay below 1, and the 80 of EDM's would flatten them
LEGEND = {"fontsize": 9, "frameon": False, "handlelength": 2.6}
CURVES, STRIP = 4.0, 0.76  # heights in inches


def schedule_figure(schedules: dict[str, nn.Module], space: Space, pixels: Tensor, data: str) -> Figure:
    """Signal rate, noise rate and log-SNR of named schedules against time, above a strip of noisy images for each.

    Legend and strips are in the order of the log-SNR at time 1/2, highest first.

    Args:
        schedules: at least one; colours and dashes repeat after 24.
        space: of pixels.
        pixels: one real image, uint8 (C, H, W).
        data: the name of the data set it is from.
    """
    schedules = dict(sorted(schedules.items(), key=lambda item: -_log_snr_at_half(item[1])))
    strips = 0.9 + STRIP * math.ceil(len(schedules) / 2)
    figure = Figure(figsize=(10, CURVES + strips), dpi=130, layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(CURVES, strips))
    above.suptitle("noisy image = signal rate × image + noise rate × noise", fontsize=12)
    _draw_curves(above, schedules)
    below.suptitle(
        f"The first held-out image of {data} under each schedule, from time 0 to 1, in the order of the log-SNR at 1/2\n"
        "(divided by √(signal rate² + noise rate²), so that all are of one contrast; the noise is the same)",
        fontsize=10,
    )
    _draw_strips(below, schedules, space, pixels)
    return figure


def _log_snr_at_half(schedule: nn.Module) -> float:
    return log_snr(*schedule(torch.tensor([0.5], dtype=torch.float64))).item()


def _draw_curves(figure: SubFigure, schedules: dict[str, nn.Module]) -> None:
    signal_axis, noise_axis, ratio_axis = axes = figure.subplots(1, 3)
    time = torch.linspace(0, 1, 501, dtype=torch.float64)
    highest = {}
    for place, (name, schedule) in enumerate(schedules.items()):
        signal_rate, noise_rate = schedule(time)
        highest[name] = noise_rate.max().item()
        style = {"label": name, **_line_style(place)}
        signal_axis.plot(time, signal_rate, **style)
        noise_axis.plot(time, noise_rate, **style)
        ratio_axis.plot(time, log_snr(signal_rate, noise_rate), **style)
    signal_axis.set_title("signal rate", fontsize=10)
    noise_axis.set_title(_noise_title(highest), fontsize=10)
    ratio_axis.set_title("log-SNR = log(signal rate² / noise rate²)", fontsize=10)
    for axis in (signal_axis, noise_axis):
        axis.set_ylim(-0.02, HIGHEST_NOISE_RATE)
    for axis in axes:
        _time_axis(axis)
    handles, labels = signal_axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, **LEGEND)


def _noise_title(highest: dict[str, float]) -> str:
    """Says which schedules leave the axis, and how far they go."""
    beyond = ", ".join(f"{name} goes on to {rate:.3g}" for name, rate in highest.items() if rate > HIGHEST_NOISE_RATE)
    return f"noise rate (cut: {beyond})" if beyond else "noise rate"


def _line_style(place: int) -> dict:
    """Every second line is dashed and lies above the others, so that two that coincide are both seen."""
    dashed = (place + place // len(COLOURS)) % 2
    colour = COLOURS[place % len(COLOURS)]
    return {"color": colour, "linestyle": ("-", (0, (3, 2)))[dashed], "linewidth": 1.6, "zorder": 2 + dashed}


def _time_axis(axis: Axes) -> None:
    axis.set_xlim(0, 1)
    axis.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0\nclean", "1/4", "1/2", "3/4", "1\nnoise"])
    axis.set_xlabel("time", fontsize=9, labelpad=-8)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def _draw_strips(figure: SubFigure, schedules: dict[str, nn.Module], space: Space, pixels: Tensor) -> None:
    image = space.encode(pixels[None])
    noise = noise_of_images(0, [0], image.shape[1:], device=image.device)
    times = torch.linspace(0, 1, len(TIMES), device=image.device)
    rows = math.ceil(len(schedules) / 2)
    axes = list(figure.subplots(rows, 2, squeeze=False).T.flat)  # down the left column, then the right one
    for place, (name, schedule) in enumerate(schedules.items()):
        images = dissolve(space, schedule, image, noise, times)
        _draw_strip(axes[place], images, Line2D([], [], label=name, **_line_style(place)))
    for axis in (axes[rows - 1], axes[len(schedules) - 1]):
        axis.tick_params(labelbottom=True)
    for axis in axes[len(schedules) :]:
        axis.set_axis_off()


def _draw_strip(axis: Axes, images: Tensor, handle: Line2D) -> None:
    size = images.shape[-1]
    gap = max(1, size // 16)
    strip = make_grid(over_white(images), nrow=len(TIMES), padding=gap, pad_value=1.0)
    axis.imshow(strip.permute(1, 2, 0).numpy(), interpolation="nearest" if size < READABLE else None)
    axis.set_frame_on(False)
    axis.set_xticks([gap + size / 2 + column * (size + gap) for column in range(len(TIMES))], TIMES, fontsize=8)
    axis.set_yticks([])
    axis.tick_params(length=0, labelbottom=False)
    axis.legend(handles=[handle], loc="lower left", bbox_to_anchor=(0, 1), borderpad=0, borderaxespad=0.1, **LEGEND)
