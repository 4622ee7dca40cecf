"""What the machine is good at: precision and memory, chosen without being asked."""

import contextlib
import ctypes
import itertools
import math
import multiprocessing
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from diffusion_lab import ranks
from diffusion_lab.errors import UserError

HALVES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
READERS = 4  # processes that read batches, at the most
MOST_ON_A_GPU = 64  # processes
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4

_gpu = None  # the lock by which this process has taken one


@dataclass(frozen=True)
class Machine:
    """Where and how precisely things are computed.

    Attributes:
        device: of models and images.
        precision: Lightning's name of it, such as "32-true" or "bf16-mixed".
    """

    device: torch.device
    precision: str

    @property
    def autocast(self) -> contextlib.AbstractContextManager:
        """The context under which networks run."""
        return autocast(self.precision, self.device)


def machine(accelerator: str, precision: str) -> Machine:
    """The machine that Lightning's `accelerator` and `precision` mean, "auto" being the best there is."""
    device = pick_device(accelerator)
    if device.type == "cuda" and ranks.count() == 1:
        take_gpu()
    return Machine(device, choose_precision(precision, device))


def take_gpu() -> None:
    """Let this process use a GPU that no other one on this machine has taken, where there are several, until it ends. Of
    more processes than GPUs each GPU is given as many, or one less."""
    global _gpu
    count = torch.cuda.device_count()
    if count == 1 or _gpu:
        return
    names = (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))).split(",")
    for turn, (number, name) in itertools.product(range(MOST_ON_A_GPU), enumerate(names)):
        lock = FileLock(Path(tempfile.gettempdir(), f"diffusion-lab-gpu-{name}.{turn}.lock"), mode=0o666)
        with contextlib.suppress(Timeout, OSError):  # another user's, perhaps
            lock.acquire(timeout=0)
            _gpu = lock
            torch.cuda.set_device(number)
            return


def choose_precision(requested: str, device: torch.device) -> str:
    """Lightning's precision name: `requested`, or for "auto" bf16-mixed where bf16 is fast in hardware, else 32-true.

    On a CPU that means AMX or AVX512-BF16; elsewhere PyTorch emulates bf16, ten times slower than float32.

    Raises:
        UserError: "16-mixed" is no precision of a CPU.
    """
    if requested == "16-mixed" and device.type == "cpu":
        raise UserError("precision=16-mixed needs a GPU: take auto, bf16-mixed or 32-true")
    if requested != "auto":
        return requested
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        features = torch.cpu.get_capabilities() if device.type == "cpu" else {}
        fast = features.get("amx_bf16", False) or features.get("avx512_bf16", False)
    return "bf16-mixed" if fast else "32-true"


def training_layout(device: torch.device) -> torch.memory_format:
    """The layout in which convolutions train fastest: channels_last, but not in float32 on a CPU.

    Measured with AVX2: the reference U-Net at 64 px trains 1.12 times as fast in contiguous memory, for the sake of its
    backward pass (forward alone it is channels_last by 1.2, so that is what denoisers draw in). The other networks,
    whose layer normalisation wants channels_last, bring their images into that themselves, and lose nothing.
    """
    float32 = device.type == "cpu" and choose_precision("auto", device) == "32-true"
    return torch.contiguous_format if float32 else torch.channels_last


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager:
    """The autocast context of a Lightning precision name, reusable."""
    dtype = HALVES.get(precision)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def pick_device(accelerator: str) -> torch.device:
    """The device on which Lightning's `accelerator` ("auto", "cpu", "gpu") would train.

    Raises:
        UserError: it is a GPU, and there is none.
    """
    if accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise UserError(f"accelerator={accelerator}: PyTorch sees no GPU here; take cpu or auto")
    if accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available()):
        return torch.device("cuda")
    return torch.device("cpu")


def choose_compile(requested: bool | str, device: torch.device) -> bool:
    """Whether training goes through torch.compile: `requested`, or for "auto" where there are a GPU and a C++ compiler.

    Not on a CPU: three quarters of a step are convolutions, the same oneDNN calls either way, and what fusing the rest
    wins is lost to copies between layouts. Measured with AVX2: 0.99 of eager's images a second on digits and 0.96 at
    64 px, after compiling for over a minute.

    Raises:
        UserError: `requested` is True, and there is no compiler.
    """
    if requested is True and not has_compiler():
        raise UserError("compile=true needs a C++ compiler: install g++ or clang++, or take compile=false")
    return device.type == "cuda" and has_compiler() if requested == "auto" else requested


def has_compiler() -> bool:
    """Whether there is the C++ compiler that torch.compile wants."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++"))


def compile_mode(device: torch.device, parameters: int, gradients_stay: bool = False) -> str:
    """torch.compile's mode: CUDA graphs for networks so small that a GPU would wait for their kernels to be launched.
    Not where gradients stay in place, added up over batches or devices: a graph's next replay writes over its outputs."""
    return "reduce-overhead" if device.type == "cuda" and parameters < 50e6 and not gradients_stay else "default"


def processes(trainer: dict) -> int:
    """How many processes train, each on a device of its own, with these settings of Lightning's."""
    if ranks.count() > 1 or not trainer.get("strategy"):
        return ranks.count()
    devices = trainer["devices"]
    return max(1, torch.cuda.device_count()) if devices == "auto" else int(devices)


def reading_processes(device: torch.device, size: int, batch: int) -> int:
    """How many processes read batches of `batch` bytes ahead of a training on `device`, of images that take `size` bytes and
    are not on it: none where a processor finds all of them in memory anyway, where there is no room for what they read, or
    in a process that may begin no others."""
    in_memory = size <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
    if (device.type == "cpu" and in_memory) or multiprocessing.current_process().daemon:
        return 0
    count = min(READERS, os.cpu_count())
    shared = Path("/dev/shm")  # where the batches come through; a container's may have 64 MB
    room = shutil.disk_usage(shared).free if shared.is_dir() else math.inf
    return count if 4 * count * batch <= room else 0  # each reads two ahead, and as much again may not be given back yet


def has_room(device: torch.device, size: int) -> bool:
    """Whether `device` is a GPU of which `size` bytes take at most a quarter of the free memory."""
    return device.type == "cuda" and size <= torch.cuda.mem_get_info(device)[0] / 4


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next step instead of giving it back to the kernel.

    A training step frees and takes the same large tensors again; by default each costs a fresh mmap and its page
    faults. Measured on 64 px convolutions: a third more images a second. Does nothing where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_TOP_PAD, 64 * 2**20)
