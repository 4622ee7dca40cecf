"""Every part of a run called once on a few images before the training begins, so that a mistake costs seconds: a training
step, the sampler with all its steps, the scores, the final pictures."""

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from diffusion_lab import ranks
from diffusion_lab.data.cache import Decoded
from diffusion_lab.data.images import Batch, Split
from diffusion_lab.errors import SHOWN, Diverged, UserError, failure_of_own_code, user_error_in
from diffusion_lab.experiments.runs import Run
from diffusion_lab.parts import build
from diffusion_lab.tasks.task import Setting, Task
from diffusion_lab.training.module import Training

IMAGES = 4  # a KID takes as many
FEATURES = 16  # of the extractor's: the time of an FID grows with their third power


def rehearse(task: Task, module: Training, setting: Setting) -> None:
    """Do once what the run will do. The model is left as it was, random numbers too; nothing stays on the disk.

    Raises:
        UserError: a part fails; the message names where and why.
    """
    with tempfile.TemporaryDirectory() as folder, _left_as_it_was(module, setting), _quiet(), ranks.by_itself():
        small = _small(setting, Path(folder))
        with _named("a training step"):
            _step(module, small)
        with _named("scoring and drawing"), _answered_once(module.model.network), contextlib.suppress(Diverged):
            task.outcome(module.model.eval(), small)  # what an untrained network draws need not be finite


def _step(module: Training, setting: Setting) -> None:
    decoded, device = setting.decoded, setting.machine.device
    batch = Split(decoded, decoded.train).__getitems__(range(len(decoded.train)))
    batch = Batch(*(part.to(device) for part in batch))
    optimizer = module.optimizer(module.parameters())
    module.learning_rate(optimizer, total_steps=100)
    with setting.machine.autocast:
        loss = module.objective(*module.train().draw(batch))
    if loss.ndim:
        raise UserError(f"the loss is to be a single number, and has shape {tuple(loss.shape)}")
    loss.backward()


def _small(setting: Setting, folder: Path) -> Setting:
    """The same with a few images, features and samples, in another folder."""
    config, decoded = setting.config, setting.decoded
    figures = [build(node, f"metrics.figures.{name}") for name, node in config["metrics"]["figures"].items()]
    count = max([IMAGES, *(getattr(getattr(figure, "func", figure), "fewest", 1) for figure in figures)])
    extractor = {"_target_": f"{__name__}.FewFeatures", "extractor": config["metrics"]["extractor"]}
    config = {
        **config,
        "metrics": {**config["metrics"], "samples": count, "extractor": extractor},
        "grid": {**config["grid"], "count": IMAGES},
        "data": {**config["data"], "cache_dir": str(folder / "cache")},
    }
    few: Decoded = replace(decoded, train=decoded.train[:2], held_out=decoded.held_out[:count])
    return replace(setting, config=config, run=Run(folder), decoded=few)


class FewFeatures(nn.Module):
    """An extractor's first features."""

    def __init__(self, extractor: nn.Module):
        super().__init__()
        self.extractor, self.identity, self.resolution = extractor, f"{extractor.identity}-few", extractor.resolution
        self.num_features = min(FEATURES, extractor.num_features)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.extractor(pixels)[:, :FEATURES]


@contextlib.contextmanager
def _left_as_it_was(module: Training, setting: Setting) -> Iterator[None]:
    model, device = module.model, module.device
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    was_training = {each: each.training for each in module.modules()}
    module.to(setting.machine.device)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        module.zero_grad(set_to_none=True)
        module.to(device)
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
        for each, training in was_training.items():
            each.training = training


@contextlib.contextmanager
def _answered_once(network: nn.Module) -> Iterator[None]:
    """Let a network answer inputs of one shape as it answered the first: many steps take no time."""
    answers, forward = {}, network.forward

    def answer(*inputs, **named):
        shapes = tuple(each.shape if isinstance(each, Tensor) else each for each in (*inputs, *named.values()))
        key = (shapes, torch.is_inference_mode_enabled(), torch.is_grad_enabled())
        if key not in answers:
            answers[key] = forward(*inputs, **named)
        return answers[key]

    network.forward = answer
    try:
        yield
    finally:
        del network.forward


@contextlib.contextmanager
def _named(what: str) -> Iterator[None]:
    """Whatever goes wrong in here is one line that says where."""
    try:
        yield
    except Diverged:
        raise
    except Exception as error:
        mistake = user_error_in(error) or failure_of_own_code(error)
        reason = str(mistake or f"{type(error).__name__}: {' '.join(str(error).split())}")
        reason = f"{reason.removesuffix(SHOWN)}{SHOWN}"
        raise UserError(f"{what} fails, tried on a few images before the training: {reason}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the lines that the run itself will say."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(before)
