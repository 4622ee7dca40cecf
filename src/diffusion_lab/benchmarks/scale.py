"""What known systems cost on many GPUs, on paper: `python -m diffusion_lab.benchmarks.scale`, the table of docs/scale.md.

Parameters, arithmetic and what a step keeps for its backward pass are counted on networks without weights; nothing is run.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from diffusion_lab.networks.adm_unet import ADMUNet
from diffusion_lab.networks.dit import DiT

DEVICES = (1, 8, 64)
PRODUCT = 798e12  # FLOP/s of a large bfloat16 matrix product on one H100, as measured
SHARE = 0.3  # of that which a training step reaches: an assumption
NODE, NETWORK = (
    400e9,
    50e9,
)  # bytes/s that a GPU sends to others of its machine of eight, and to other machines: an assumption
MEMORY = 72e9  # bytes of an H100 that may be planned with
LEAST = 0.01  # seconds of a step, however few images it has: what Lightning and the launches of kernels took on an H100
STATE = 20  # bytes a parameter: itself, its gradient, Adam's two moments and its average, in float32


@dataclass(frozen=True)
class System:
    """A published training.

    Attributes:
        network: its class and arguments; `shape` (C, H, W) is what it sees.
        batch, steps: images of a step, and steps of the training.
    """

    name: str
    network: type[nn.Module]
    arguments: dict
    shape: tuple[int, int, int]
    batch: int
    steps: int


SYSTEMS = (
    System("DDPM, CIFAR-10", ADMUNet, {"channels": 3, "image_size": 32, "dropout": 0.1}, (3, 32, 32), 128, 800_000),
    System(
        "ADM, ImageNet 64 px",
        ADMUNet,
        {
            "channels": 3,
            "image_size": 64,
            "num_classes": 1000,
            "outputs": 2,
            "width": 192,
            "blocks": 3,
            "dropout": 0.1,
            "multipliers": (1, 2, 3, 4),
            "attention": (32, 16, 8),
            "head_channels": 64,
            "scale_shift": True,
            "residual_resampling": True,
        },
        (3, 64, 64),
        2048,
        540_000,
    ),
    System(
        "DiT-XL/2, latents of ImageNet 256 px",
        DiT,
        {
            "channels": 4,
            "image_size": 32,
            "num_classes": 1000,
            "outputs": 2,
            "patch": 2,
            "width": 1152,
            "depth": 28,
            "heads": 16,
        },
        (4, 32, 32),
        256,
        7_000_000,
    ),
)


@dataclass(frozen=True)
class Counts:
    """Of a network and one image.

    Attributes:
        flops: of its forward pass; a multiplication and an addition are two.
        kept: bytes kept for the backward pass under bfloat16 autocast, without gradient checkpointing.
    """

    parameters: int
    flops: int
    kept: int


def counted(network: type[nn.Module], arguments: dict, shape: tuple[int, int, int]) -> Counts:
    """What `network(**arguments)` costs for an image (C, H, W)."""
    with FakeTensorMode():
        model = network(**arguments)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            model(*_inputs(shape, 1))
        once, twice = (_kept(model, _inputs(shape, count)) for count in (1, 2))
    return Counts(parameters, counter.get_total_flops(), twice - once)


def _inputs(shape: tuple[int, int, int], count: int) -> tuple[Tensor, Tensor, Tensor]:
    images = torch.zeros(count, *shape).contiguous(memory_format=torch.channels_last)
    return images, torch.zeros(count), torch.zeros(count, dtype=torch.int64)


def _kept(model: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Bytes of all tensors that a forward pass keeps, each once."""
    storages = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage  # kept, so that no other takes its number
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        model(*inputs)
    return sum(storage.nbytes() for storage in storages.values())


@dataclass(frozen=True)
class Cost:
    """On a number of GPUs.

    Attributes:
        at_once: images that each has at a time; `batches` of them make its part of a step.
        memory: bytes on each.
        step: its seconds.
    """

    at_once: int
    batches: int
    memory: float
    step: float
    days: float


def cost(counts: Counts, batch: int, steps: int, devices: int) -> Cost:
    """Of `steps` of `batch` images over `devices`; a backward pass costs two forward ones, and gradients travel after it."""
    each = at_once = -(-batch // devices)
    while STATE * counts.parameters + counts.kept * at_once > MEMORY:
        at_once = -(-at_once // 2)
    batches = -(-each // at_once)
    computed = max(LEAST * batches, 3 * counts.flops * each / (SHARE * PRODUCT))
    sent = 2 * (devices - 1) / devices * 4 * counts.parameters / (NODE if devices <= 8 else NETWORK)
    step = computed + sent
    return Cost(at_once, batches, STATE * counts.parameters + counts.kept * at_once, step, step * steps / 86_400)


def table() -> str:
    """Markdown: a row for each system and number of GPUs."""
    columns = [
        "system",
        "parameters",
        "GFLOP an image",
        "GPUs",
        "`batch_size`",
        "`accumulate`",
        "memory",
        "a step",
        "in all",
    ]
    rows = [f"| {' | '.join(columns)} |"]
    rows.append("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for system in SYSTEMS:
        counts = counted(system.network, system.arguments, system.shape)
        first = f"{system.name} | {counts.parameters / 1e6:.1f} M | {counts.flops / 1e9:.1f}"
        for devices in DEVICES:
            found = cost(counts, system.batch, system.steps, devices)
            sizes = f"{devices} | {found.at_once} | {found.batches} | {found.memory / 1e9:,.1f} GB"
            rows.append(f"| {first} | {sizes} | {1e3 * found.step:,.0f} ms | {found.days:,.1f} days |")
            first = " | | "
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
