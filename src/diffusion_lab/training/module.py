"""The LightningModule that all trainings share: it seeds, compiles, optimises, and puts the config into checkpoints."""

import logging
from collections.abc import Callable

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from diffusion_lab import ranks
from diffusion_lab.data.images import Batch
from diffusion_lab.denoiser import NoisyModel
from diffusion_lab.hardware import compile_mode
from diffusion_lab.process.seeds import mixed
from diffusion_lab.training.budget import TICKS, Budget
from diffusion_lab.training.callbacks import loss_scale
from diffusion_lab.training.common import Common
from diffusion_lab.training.learning_rates import SCALING, put_at
from diffusion_lab.training.midway import go_on_in_the_epoch

log = logging.getLogger(__name__)


class Training(LightningModule):
    """Trains `model` by its `objective`, a scalar loss of tensors, which the kinds of training bring.

    Args:
        model: what is trained; its parameters alone are optimised, averaged and saved.
        optimizer: parameters to an optimizer.
        learning_rate: (optimizer, total_steps) to a torch scheduler, stepped each batch.
        seed: the random numbers of epoch e depend on (seed, e) alone, so a resumed run repeats an unbroken one.
        config: plain values, carried by every checkpoint.
        compiled: run the objective, forward and backward, through torch.compile.
        budget: how long it is to be.
        lr_scaling: how the rate grows with the number of devices, and so of images in a step: "linear" (Goyal et al. 2017,
            arXiv:1706.02677), "sqrt" (Krizhevsky 2014, arXiv:1404.5997); None: it stays.
    """

    def __init__(
        self,
        model: NoisyModel,
        optimizer: Callable,
        learning_rate: Callable,
        seed: int,
        config: dict,
        compiled: bool = False,
        budget: Budget | None = None,
        lr_scaling: str | None = None,
    ):
        super().__init__()
        self.model = model
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.seed = seed
        self.config = config
        self.compiled = compiled
        self.budget = budget or Budget()
        self.lr_scaling = lr_scaling
        self.devices_before = None  # of a training that goes on
        self.ahead = 0

    @property
    def progress(self) -> float:
        """The share of the budget that is behind, from 0 to 1."""
        return self.budget.share_done(self.trainer, self.ahead) if self._trainer else 0.0

    def objective(self, image: Tensor, label: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """The loss, a scalar, of images (B, C, H, W) in the model's space with this noise at these diffusion times (B,)."""
        raise NotImplementedError

    def draw(self, batch: Batch) -> tuple[Tensor, ...]:
        """The arguments of `objective` for a batch, with all that is random about it."""
        raise NotImplementedError

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self.objective(*self.draw(batch))
        several = self._trainer is not None and self.trainer.world_size > 1
        shown = {"on_step": True, "on_epoch": True, "prog_bar": True, "sync_dist": several}
        self.log("train/loss", loss, batch_size=len(batch.pixels), **shown)
        return loss * self._weight(len(batch.pixels), batch_idx)

    def shared(self, count: int, drawn: Callable[[int], Tensor]) -> Tensor:
        """What `drawn(count)` gives, random numbers for `count` images. Of several processes each takes its own part of what
        one would draw for all their images, so that they train as one would."""
        devices = self.trainer.world_size if self._trainer else 1
        if devices == 1:
            return drawn(count)
        with self.common:
            return drawn(count * devices)[self.trainer.global_rank :: devices]

    def noise_like(self, image: Tensor) -> Tensor:
        """Normal random numbers in the shape and layout of images."""
        return self.shared(len(image), lambda count: torch.randn_like(torch.cat([image] * (count // len(image)))))

    def _weight(self, images: int, batch_idx: int) -> float:
        """Of a batch's loss, so that the gradient of a step over several batches is the mean over its images. Lightning
        divides each by `accumulate_grad_batches`, also where an epoch ends with a smaller batch or within a step."""
        batches = self._trainer.accumulate_grad_batches if self._trainer else 1
        if batches == 1:
            return 1.0
        loader, first = self.trainer.train_dataloader, batch_idx // batches * batches
        last = min(first + batches, self.trainer.num_training_batches)
        of_the_step = min(last * loader.batch_size, len(loader.sampler)) - first * loader.batch_size
        return batches * images / of_the_step

    def on_train_epoch_start(self) -> None:
        if self.trainer.world_size > 1:
            self.common = Common(mixed(self.seed, self.current_epoch, 0), self.device)
        torch.manual_seed(mixed(self.seed, self.current_epoch, self.global_rank))

    def on_fit_start(self) -> None:
        if self._trainer is not None:
            ranks.join_spawned(self._trainer.global_rank, self._trainer.world_size)
        if self.compiled:
            # Not the network itself: checkpoints keep their keys, and drawing and scoring, of changing shapes, stay eager.
            torch._dynamo.reset()  # of a multirun's earlier jobs: after eight variants of the objective it would stay eager
            torch._dynamo.config.fail_on_recompile_limit_hit = True  # which would be slow without a word
            trainer = self._trainer
            gradients_stay = bool(trainer) and (trainer.accumulate_grad_batches > 1 or trainer.world_size > 1)
            mode = compile_mode(self.device, sum(parameter.numel() for parameter in self.parameters()), gradients_stay)
            self.objective = torch.compile(self.objective, mode=mode, dynamic=False)

    def configure_optimizers(self):
        optimizer = self.optimizer(self.parameters())
        for group in optimizer.param_groups if self.lr_scaling else ():
            group["lr"] *= SCALING[self.lr_scaling](self.trainer.world_size)
        scheduler = self.learning_rate(optimizer, total_steps=self.budget.schedule_steps(self.trainer))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def lr_scheduler_step(self, scheduler, metric) -> None:
        if self.budget.minutes:
            put_at(scheduler, int(self.progress * TICKS))
        else:
            scheduler.step()

    def on_train_start(self) -> None:
        """A training that goes on from a shorter one had another rate there: the schedule is that of the whole."""
        scheduler = self.lr_schedulers()
        self.ahead = self._ahead()
        # that one may have counted otherwise
        place = int(self.progress * TICKS) if self.budget.minutes else self.global_step + self.ahead
        if self.global_step and isinstance(scheduler, LambdaLR) and put_at(scheduler, place):
            rate, done = scheduler.get_last_lr()[0], 100 * self.progress
            log.info("learning rate: %.3g from here, as its schedule over %s has it after %.0f %%", rate, self.budget, done)

    def _ahead(self) -> int:
        """By how many steps a schedule over epochs is ahead of the steps taken: none, but where a training goes on with
        another number of devices, whose epochs have fewer steps or more."""
        if not self.budget.epochs or self.devices_before in (None, self.trainer.world_size):
            return 0
        steps = self.budget.schedule_steps(self.trainer) / self.budget.epochs
        return round(self.current_epoch * steps) - self.global_step

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None) -> None:
        # Lightning's own refuses fused optimizers, for the sake of a scaler of gradients, which only float16 has.
        if not gradient_clip_val:
            return
        most = gradient_clip_val * (loss_scale(self._trainer, optimizer) if self._trainer else 1)
        if gradient_clip_algorithm == "value":
            torch.nn.utils.clip_grad_value_(self.parameters(), most)
        else:
            torch.nn.utils.clip_grad_norm_(self.parameters(), most)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["config"] = self.config
        checkpoint["devices"] = self.trainer.world_size if self._trainer else 1

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        self.devices_before = checkpoint.get("devices", 1)
        go_on_in_the_epoch(checkpoint)
