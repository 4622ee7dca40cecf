"""What machine this is, and the most that it does: the ceilings that speeds are held against."""

import os
import platform
from pathlib import Path

import torch

from diffusion_lab.benchmarks.timing import Figure, Work, in_turns
from diffusion_lab.hardware import choose_precision, pick_device


def describe() -> dict:
    """Names and numbers of the machine and of what runs on it."""
    device = pick_device("auto")
    features = torch.cpu.get_capabilities()
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "vector units": [name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16") if features.get(name)],
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "precision": choose_precision("auto", device),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def ceilings(folder: Path, rounds: int, seconds: float) -> list[Figure]:
    """The fastest matrix product, convolution and memory copy: GFLOP/s (a multiplication and an addition are two), GB/s."""
    device = pick_device("auto")
    size = 8192 if device.type == "cuda" else 1536
    cases = {f"matrix product, {name}": _product(size, dtype, device) for name, dtype in _dtypes(device).items()}
    cases |= {f"3x3 convolution, {name}": convolution(dtype, device) for name, dtype in _dtypes(device).items()}
    copy = "memory copy, read and written"
    best = {name: max(rates) / 1e9 for name, rates in in_turns({**cases, copy: _copy(device)}, rounds, seconds).items()}
    return [Figure(name, value, "GB/s" if name == copy else "GFLOP/s") for name, value in best.items()]


def _dtypes(device: torch.device) -> dict[str, torch.dtype]:
    fast = choose_precision("auto", device) == "bf16-mixed"  # else bf16 is emulated, and a matter of minutes
    return {"float32": torch.float32, **({"bfloat16": torch.bfloat16} if fast else {})}


def _product(size: int, dtype: torch.dtype, device: torch.device) -> Work:
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))

    def work() -> int:
        a @ b
        return 2 * size**3

    return work


def convolution(dtype: torch.dtype, device: torch.device) -> Work:
    """A convolution of the kind that U-Nets are made of; its units are FLOP."""
    batch, width, size = (256, 256, 32) if device.type == "cuda" else (16, 128, 32)
    layer = torch.nn.Conv2d(width, width, 3, padding=1, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    x = torch.randn(batch, width, size, size, device=device).to(dtype, memory_format=torch.channels_last)

    def work() -> int:
        with torch.inference_mode():
            layer(x)
        return 2 * 9 * width**2 * size**2 * batch

    return work


def _copy(device: torch.device) -> Work:
    source = torch.zeros(64 * 2**20, device=device)
    target = torch.empty_like(source)

    def work() -> int:
        target.copy_(source)
        return 2 * source.nbytes

    return work


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.is_file() else []
    return names[0].split(":")[1].strip() if names else platform.processor() or platform.machine()
