"""The LightningDataModule: batches gathered from the decoded array in one indexing operation."""

import warnings
from collections.abc import Iterator
from copy import copy
from typing import NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from diffusion_lab.data.cache import Decoded
from diffusion_lab.hardware import has_room, reading_processes
from diffusion_lab.process.seeds import mixed

STRETCH = 2**20  # bytes of images side by side: of one here and one there, a disk reads what is between too


class Batch(NamedTuple):
    """pixels (B, C, H, W) uint8, channels_last; label (B,) int64, -1 without a class; index (B,) within the split."""

    pixels: Tensor
    label: Tensor
    index: Tensor


class Split(Dataset):
    """One split of the decoded images; its batches are one gather, on the device where the images are.

    Args:
        decoded: the images.
        positions: indices of this split's images in `decoded`.
        repeat: how often an epoch visits each image.
    """

    def __init__(self, decoded: Decoded, positions: np.ndarray, repeat: int = 1):
        self.decoded = decoded
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*not writable.*")  # nobody writes to them
            self.images = torch.from_numpy(decoded.images)
        self.labels = torch.from_numpy(decoded.labels)
        self.positions = torch.from_numpy(positions)
        self.repeat = repeat

    def __reduce__(self) -> tuple:
        """Another process makes it of the images' file again."""
        return Split, (self.decoded, self.positions.cpu().numpy(), self.repeat)

    def to(self, device: torch.device) -> "Split":
        """Move all images to `device`."""
        self.images, self.labels, self.positions = (part.to(device) for part in (self.images, self.labels, self.positions))
        return self

    def thinned(self, most: int) -> "Split":
        """This or, of images that take more than `most` bytes, one with every second, third or so stretch of them."""
        size = self.images[0].nbytes
        step = -(-len(self.positions) * size // most)
        if step <= 1:
            return self
        stretches = self.positions.sort().values.split(max(1, STRETCH // size))  # as they lie on the disk
        thin = copy(self)
        thin.positions = torch.cat(stretches[::step])
        return thin

    def __len__(self) -> int:
        return len(self.positions) * self.repeat

    def __getitems__(self, indices: list[int]) -> Batch:
        index = torch.as_tensor(indices) % len(self.positions)
        rows = self.positions[index.to(self.positions.device)]
        return Batch(self.images[rows].permute(0, 3, 1, 2), self.labels[rows], index)


def batches_of(split: Split, batch_size: int) -> Iterator[Batch]:
    """The images of a split in order, each once."""
    for indices in torch.arange(len(split.positions)).split(batch_size):
        yield split.__getitems__(indices)


class Images(LightningDataModule):
    """Training and held-out batches of uint8 images.

    Args:
        decoded: from `diffusion_lab.data.cache.decode`.
        batch_size: images a batch; the last batch of an epoch may be smaller.
        repeat: how often an epoch visits each training image.
        flip: mirror each training image left to right with probability 0.5.
        seed: the order of epoch e depends on (seed, e) alone.
        shift: move each training image up to so many pixels each way.
        held_out_images: of each epoch's validation, at most; None: all that are held out.
    """

    def __init__(
        self,
        decoded: Decoded,
        batch_size: int,
        repeat: int = 1,
        flip: bool = False,
        seed: int = 0,
        shift: int = 0,
        held_out_images: int | None = None,
    ):
        super().__init__()
        self.batch_size = batch_size
        self.flip = flip
        self.shift = shift
        self.seed = seed
        self.train = Split(decoded, decoded.train, repeat)
        self.held_out = Split(decoded, decoded.held_out[:held_out_images])  # shuffled, so that a part is like the whole
        self.batches_done = 0  # of the epoch with which a training goes on
        self.device = torch.device("cpu")

    def state_dict(self) -> dict:
        loop = self.trainer.fit_loop.epoch_loop
        batches = loop.batch_progress.current.ready % self.trainer.num_training_batches
        return {"batches": batches, "devices": self.trainer.world_size}

    def load_state_dict(self, state: dict) -> None:
        self.batches_done = state["batches"] * state.get("devices", 1) // self.trainer.world_size

    def setup(self, stage: str) -> None:
        """Put the images on a GPU that has room for them, so that no batch is waited for; else batches are read ahead, by
        other processes, and pinned."""
        self.device = self.trainer.strategy.root_device
        if has_room(self.device, self.train.images.nbytes):
            self.train.to(self.device)
            self.held_out.images, self.held_out.labels = self.train.images, self.train.labels
            self.held_out.to(self.device)

    def train_dataloader(self) -> DataLoader:
        # On one device too: Lightning tells this sampler the epoch, so a resumed run sees the order of an unbroken one.
        replicas, rank = self._place()
        done = self.batches_done * self.batch_size
        return self._loader(self.train, EpochOrder(self.train, replicas, rank, self.seed, done))

    def val_dataloader(self) -> DataLoader:
        replicas, rank = self._place()  # each image once: Lightning's own sampler repeats some, so that all have as many
        return self._loader(self.held_out, range(rank, len(self.held_out), replicas) if replicas > 1 else None)

    def _place(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    def _loader(self, split: Split, sampler: DistributedSampler | None) -> DataLoader:
        settings = {"collate_fn": _as_it_is, "generator": torch.Generator()}  # else it takes a number from the global one
        if split.images.device.type == "cpu":
            batch = self.batch_size * split.images[0].nbytes
            readers = reading_processes(self.device, split.images.nbytes, batch)
            settings |= {"num_workers": readers, "persistent_workers": readers > 0, "pin_memory": torch.cuda.is_available()}
        return DataLoader(split, self.batch_size, sampler=sampler, **settings)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Flip and shift on the device, where the whole batch costs one pass."""
        if self.flip and self.trainer.training:
            mirrored = torch.rand(len(batch.pixels), 1, 1, 1, device=batch.pixels.device) < 0.5
            batch = batch._replace(pixels=torch.where(mirrored, batch.pixels.flip(-1), batch.pixels))
        if self.shift and self.trainer.training:
            batch = batch._replace(pixels=shifted(batch.pixels, self.shift))
        return batch


class EpochOrder(DistributedSampler):
    """An order of its own for each (seed, epoch); torch's has seed + epoch, so that seed 1 begins where seed 0 goes on.

    Args:
        done: images of the first epoch that are left out, as they were seen before.
    """

    def __init__(self, split: Split, replicas: int, rank: int, seed: int, done: int = 0):
        super().__init__(split, replicas, rank, shuffle=True, seed=seed)
        self.done = done

    def __iter__(self) -> Iterator[int]:
        seed, epoch = self.seed, self.epoch
        self.seed, self.epoch = mixed(seed, epoch), 0
        try:
            order = list(super().__iter__())
        finally:
            self.seed, self.epoch = seed, epoch
        done, self.done = self.done, 0
        return iter(order[done:])


def images_of(config: dict, decoded: Decoded) -> Images:
    """What a training is fed with, as its config says."""
    data = config["data"]
    settings = {key: data[key] for key in ("repeat", "flip", "shift", "held_out_images")}
    return Images(decoded, config["batch_size"], seed=config["seed"], **settings)


def shifted(pixels: Tensor, most: int) -> Tensor:
    """Each image of (B, C, H, W) moved at random, up to `most` pixels each way; its edge fills what becomes free."""
    count, _, height, width = pixels.shape
    down, right = torch.randint(-most, most + 1, (2, count, 1), device=pixels.device)
    rows = (torch.arange(height, device=pixels.device) - down).clamp(0, height - 1)
    columns = (torch.arange(width, device=pixels.device) - right).clamp(0, width - 1)
    images = torch.arange(count, device=pixels.device)[:, None, None]
    return pixels.permute(0, 2, 3, 1)[images, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _as_it_is(batch: Batch) -> Batch:
    return batch
