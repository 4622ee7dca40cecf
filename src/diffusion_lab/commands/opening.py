"""What a run says in its first seconds: before torch is imported what it is trained on, and where; then by what."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from diffusion_lab.commands.console import short
from diffusion_lab.commands.data import open_source
from diffusion_lab.data.cache import chosen
from diffusion_lab.experiments.names import data_name
from diffusion_lab.wording import counted

if TYPE_CHECKING:
    from diffusion_lab.experiments.runs import Run
    from diffusion_lab.hardware import Machine
    from diffusion_lab.training.module import Training

log = logging.getLogger(__name__)

COLOURS = {1: "grey", 3: "colour", 4: "colour and transparency"}


def say_data(config: dict, run: Run) -> None:
    """The images, counted, and the folder. Needs no torch."""
    data, source = config["data"], open_source(config["data"])
    kept = chosen(source, data["max_images"])
    train, held_out = (int(np.isin(split, kept).sum()) for split in (source.train, source.held_out))
    classes = f", {counted(len(source.class_names), 'class')}" if source.class_names else ""
    size = data["image_size"]
    px = size if isinstance(size, int) else " x ".join(map(str, size))
    found = f"{counted(train + held_out, 'image')}, {train:,} to train on and {held_out:,} held out{classes}"
    log.info("data         %s: %s; %s px, %s", data_name(data), found, px, COLOURS[data["channels"]])
    log.info("folder       %s", short(run.folder))


def say_network(config: dict, module: Training, machine: Machine, images: int) -> None:
    """The network, the device and the budget; `images` are those of an epoch."""
    import torch

    from diffusion_lab.hardware import processes
    from diffusion_lab.training.learning_rates import SCALING

    parameters = sum(parameter.numel() for parameter in module.model.network.parameters())
    device = machine.device.type
    named = torch.cuda.get_device_name() if device == "cuda" else f"{device}, {counted(torch.get_num_threads(), 'thread')}"
    log.info(
        "network      %s, %s; %s, %s",
        config["choices"]["network"],
        counted(parameters, "parameter"),
        named,
        machine.precision,
    )
    count = processes(config["trainer"])
    batches = config["accumulate"] * count
    steps = -(-images // (config["batch_size"] * batches))
    at_once = f"{config['batch_size']} images" + (f" x {config['accumulate']}" if config["accumulate"] > 1 else "")
    at_once += f" on each of {count} devices, {config['batch_size'] * batches} in all" if count > 1 else ""
    at_once += f"; optimizer.lr scaled by {SCALING[config['lr_scaling']](count):.3g}" if config["lr_scaling"] else ""
    log.info("training     %s, an epoch being %s of %s", module.budget, counted(steps, "step"), at_once)
