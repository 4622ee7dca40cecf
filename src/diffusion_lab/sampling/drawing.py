"""A denoiser ready to draw: its sampler, its guidance and its labels, as a config asks for them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from diffusion_lab.conditions import Classes
from diffusion_lab.denoiser import Denoiser
from diffusion_lab.errors import UserError
from diffusion_lab.hardware import Machine
from diffusion_lab.parts import build
from diffusion_lab.sampling.draw import Finite, Sampler, draw
from diffusion_lab.sampling.enlarging import Cascade


@dataclass(frozen=True)
class Drawing:
    """What `sample`, `edit`, `evaluate` and `train` draw with.

    Attributes:
        denoiser: on the device, not guided.
        guidance: (denoiser, scale=...) to the guided one, see `diffusion_lab.sampling.guidance`.
        sampler: with its network calls.
        machine: where it is done.
        seed: image i depends on it and on i.
    """

    denoiser: Denoiser
    guidance: Callable
    sampler: Sampler
    machine: Machine
    seed: int

    @property
    def denoisers(self) -> list[Denoiser]:
        """Those whose networks are called: its own, and the one that enlarges what it draws, where there is one."""
        return [self.denoiser, *([self.sampler.enlarger] if isinstance(self.sampler, Cascade) else [])]

    @property
    def enlarging_steps(self) -> int:
        """Network calls of the second of those."""
        return self.sampler.way["steps"] if isinstance(self.sampler, Cascade) else 0

    def guided(self, **changes) -> Denoiser:
        """The guided denoiser, perhaps with another scale."""
        return self.guidance(self.denoiser, **changes)

    @cached_property
    def conditions(self) -> Classes:
        """What labels can be asked for: the denoiser's own, or those that guidance knows of."""
        return self.guided().conditions

    def labels(self, label: int | str | Sequence[int | str], count: int) -> Tensor:
        """`label`, a row or a name, one for all images or one each, as rows (count,).

        Raises:
            UserError: there is no such class, or there are not `count` of them.
        """
        one = isinstance(label, str) or not isinstance(label, Sequence)
        rows = [self.conditions.row(each) for each in ([label] * count if one else label)]
        if len(rows) != count:
            raise UserError(f"label={label} names {len(rows)} classes for {count} images")
        return torch.tensor(rows)

    def classes_in_turn(self, count: int) -> Tensor | None:
        """Each class in turn (count,), where there are classes."""
        return torch.arange(count) % len(self.conditions) if len(self.conditions) else None

    def images(
        self,
        count: int,
        labels: Tensor | None,
        batch_size: int,
        guided: Denoiser | None = None,
        callback: Callable | None = None,
        each: Callable = map,
    ) -> Iterator[Tensor]:
        """Batches of images, values from 0 to 1, on the CPU: `count` in all; see `diffusion_lab.sampling.draw`."""
        guided = self.guided() if guided is None else guided
        return draw(guided, self.sampler, count, self.seed, batch_size, labels, self.machine.autocast, callback, each)


def drawing(config: dict, denoiser: Denoiser, machine: Machine, trusted: Sequence[str] = ()) -> Drawing:
    """Build sampler and guidance as `config` says, for a denoiser, which is moved to the device.

    Args:
        trusted: packages whose classes a checkpoint, of a guiding classifier for instance, may name.
    """
    node, scale = config["guidance"], config["guidance"].get("scale")
    if isinstance(scale, list):  # each of which sample.py draws with
        node = {**node, "scale": scale[0]}
    if "checkpoint" in node:
        node = {**node, "trusted": list(trusted)}
    parts = build(node, "guidance"), Finite(build(config["sampler"], "sampler"))
    return Drawing(denoiser.to(machine.device), *parts, machine, config["seed"])
