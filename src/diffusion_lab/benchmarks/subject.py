"""What is measured: an experiment composed as train.py would, on images of random pixels."""

from pathlib import Path

import numpy as np
import torch
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from torch.utils.flop_counter import FlopCounterMode

from diffusion_lab.commands.checks import plain
from diffusion_lab.commands.train import prepare
from diffusion_lab.data.cache import Decoded
from diffusion_lab.data.images import Images, images_of
from diffusion_lab.experiments.runs import Run
from diffusion_lab.hardware import machine
from diffusion_lab.parts import build
from diffusion_lab.sizes import sides, size_text
from diffusion_lab.tasks.fitting import training_of
from diffusion_lab.tasks.task import Setting
from diffusion_lab.training.module import Training


def experiment(*overrides: str) -> dict:
    """The resolved config of `python src/train.py <overrides>`. Call it within a Hydra program of this project."""
    outer = HydraConfig.instance().cfg
    cfg = compose("train", list(overrides), return_hydra_config=True)
    try:
        HydraConfig.instance().set_config(cfg)  # what ${hydra:...} refers to
        return plain(OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"]))
    finally:
        HydraConfig.instance().cfg = outer


def network_of(config: dict) -> torch.nn.Module:
    """The network with its initial weights."""
    torch.manual_seed(config["seed"])
    return build(config["network"], "network")


def training_parts(config: dict, decoded: Decoded, folder: Path) -> tuple[Training, Images]:
    """What Lightning trains, and on what, as train.py builds it."""
    torch.manual_seed(config["seed"])
    model, images = build(config["model"], "model"), images_of(config, decoded)
    prepare(model, config, images)
    computer = machine(config["trainer"]["accelerator"], config["trainer"]["precision"])
    return training_of(build(config["task"], "task"), model, Setting(config, Run(folder), decoded, computer)), images


def forward_flops(config: dict) -> int:
    """Of one image through the network; a multiplication and an addition are two."""
    data = config["data"]
    image = torch.zeros(1, data["channels"], *sides(data["image_size"]))
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network_of(config).eval()(image, torch.zeros(1), torch.zeros(1, dtype=torch.int64))
    return counter.get_total_flops()


def title(config: dict) -> str:
    """The experiment in a few words."""
    parameters = sum(parameter.numel() for parameter in network_of(config).parameters()) / 1e6
    size, network = config["data"]["image_size"], config["choices"]["network"]
    return f"{network} ({parameters:.2f} M) at {size_text(size)} px, batch {config['batch_size']}"


def random_images(config: dict, folder: Path, train: int, held_out: int = 1) -> Decoded:
    """Random pixels in the shape of the config's images, mapped from a file in `folder` as decoded images are."""
    size, count = config["data"]["image_size"], train + held_out
    file = folder / f"images-{count}-{size_text(size).replace(' ', '')}.npy"
    generator = np.random.default_rng(0)
    np.save(file, generator.integers(0, 256, (count, *sides(size), config["data"]["channels"]), dtype=np.uint8))
    labels = np.arange(count) % (config["data"]["num_classes"] or 1)
    images = np.load(file, mmap_mode="r")
    return Decoded(images, labels, np.arange(train), np.arange(train, count), [], file.stem)
