from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from diffusion_lab.data.cache import Decoded
from diffusion_lab.data.images import Batch, Images
from diffusion_lab.denoiser import NetworkDenoiser
from diffusion_lab.hardware import compile_mode
from diffusion_lab.networks.unet import UNet
from diffusion_lab.process.levels import noise_power
from diffusion_lab.process.schedules import Cosine
from diffusion_lab.process.targets import Noise
from diffusion_lab.process.times import uniform
from diffusion_lab.process.weightings import uniform as equal_weights
from diffusion_lab.spaces.pixels import Pixels
from diffusion_lab.training.budget import Budget
from diffusion_lab.training.criteria import Denoising
from diffusion_lab.training.denoiser import DenoiserTraining
from diffusion_lab.training.learning_rates import constant, put_at
from diffusion_lab.training.module import Training
from diffusion_lab.training.teachers import Data
from tests.needs import needs_compiler
from tests.sampling.ideal import GaussianNetwork, ideal_denoiser


class LabelRecorder(GaussianNetwork):
    def forward(self, noisy, level, label=None):
        self.label = label
        return super().forward(noisy, level, label)


def training(loss: torch.nn.Module, label_dropout: float = 0.0) -> DenoiserTraining:
    denoiser = ideal_denoiser(LabelRecorder(0.0, 1.0), Cosine())
    settings = {"optimizer": torch.optim.AdamW, "learning_rate": constant, "seed": 0, "config": {}}
    module = DenoiserTraining(denoiser, Denoising(loss, equal_weights, Data()), uniform, label_dropout, **settings)
    module.log = lambda *args, **kwargs: None
    return module


def test_loss_of_the_ideal_denoiser_is_its_known_error():
    """Unit-variance pixels, image target: the best squared error at time t is noise_rate^2."""
    torch.manual_seed(0)
    module = training(torch.nn.MSELoss(reduction="none"))
    pixels = torch.randn(4000, 1, 4, 4) * 255  # normalised by mean 0 and std 1 to unit variance
    loss = module.training_step(Batch(pixels, torch.zeros(4000).long(), torch.arange(4000)), 0)
    expected = (Cosine()(torch.linspace(0, 1, 10_001))[1] ** 2).mean()
    torch.testing.assert_close(loss, expected, rtol=0.03, atol=0)


def test_labels_are_hidden_with_the_given_probability():
    torch.manual_seed(0)
    module = training(torch.nn.L1Loss(reduction="none"), label_dropout=0.1)
    batch = Batch(torch.zeros(5000, 1, 2, 2), torch.full((5000,), 3), torch.arange(5000))
    module.training_step(batch, 0)
    labels = module.model.network.label
    assert set(labels.tolist()) == {-1, 3}
    assert abs((labels == -1).float().mean() - 0.1) < 0.02


@pytest.mark.ci
def test_each_job_of_a_long_multirun_is_compiled(monkeypatch):
    """PyTorch gives up after eight variants of one function, and goes on without compiling."""
    compiled, compile_ = [], torch.compile

    def counting(function, **_):
        return compile_(function, backend=lambda graph, inputs: compiled.append(graph) or graph.forward, dynamic=False)

    monkeypatch.setattr(torch, "compile", counting)
    batch = Batch(torch.zeros(4, 1, 2, 2), torch.zeros(4).long(), torch.arange(4))
    counts = []
    for _ in range(10):
        module = training(torch.nn.MSELoss(reduction="none"))
        module.compiled = True
        module.on_fit_start()
        before = len(compiled)
        module.training_step(batch, 0)
        counts.append(len(compiled) - before)
    assert min(counts) > 0


def test_graphs_that_write_over_their_outputs_are_not_for_gradients_that_stay():
    gpu = torch.device("cuda")
    assert compile_mode(gpu, 1_000_000) == "reduce-overhead"
    assert compile_mode(gpu, 1_000_000, gradients_stay=True) == compile_mode(gpu, 60_000_000) == "default"


@pytest.mark.ci
@needs_compiler
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_compiled_and_eager_training_agree_and_share_their_checkpoints(device):
    states = []
    for compiled in (False, True):
        torch.manual_seed(0)
        network = UNet(1, 8, widths=(8, 8), heads=(0, 1))
        denoiser = NetworkDenoiser(network, Cosine(), Noise(), noise_power, Pixels(1, 8)).to(
            memory_format=torch.channels_last
        )
        criterion = Denoising(torch.nn.MSELoss(reduction="none"), equal_weights, Data())
        settings = {"optimizer": None, "learning_rate": None, "seed": 0, "config": {}, "compiled": compiled}
        module = DenoiserTraining(denoiser, criterion, uniform, 0.0, **settings).to(device)
        module.log = lambda *args, **kwargs: None
        module.on_fit_start()
        losses = []
        for size in (6, 6, 4):  # the last batch of an epoch is smaller
            pixels = torch.randint(256, (size, 1, 8, 8), dtype=torch.uint8)
            batch = Batch(pixels, torch.full((size,), -1), torch.arange(size))
            loss = module.training_step(Batch(*(part.to(device) for part in batch)), 0)
            loss.backward()
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter -= 0.1 * parameter.grad
                    parameter.grad = None
            losses.append(loss.item())
        states.append((losses, module.state_dict()))
    (eager_losses, eager), (compiled_losses, compiled) = states
    assert compiled_losses == pytest.approx(eager_losses, rel=1e-4)
    assert eager.keys() == compiled.keys()
    torch.testing.assert_close(compiled, eager, rtol=1e-4, atol=1e-5)


class MeanOfImages(Training):
    """Its only gradient is the mean brightness of a step's images."""

    def draw(self, batch):
        return (batch.pixels,)

    def objective(self, pixels):
        return (self.model.weight * pixels.double().mean((1, 2, 3))).mean()

    def on_train_batch_end(self, *_):
        self.weights = [*getattr(self, "weights", []), self.model.weight.item()]


@pytest.mark.parametrize("count", [24, 25, 31, 36])
@pytest.mark.parametrize("batches", [1, 2, 3, 4])
def test_a_step_over_several_batches_is_that_over_one_as_large(count, batches, tmp_path):
    """Whatever an epoch ends with: 36 and 24 images are whole steps of twelve, 25 are not, nor is the last batch of 31."""
    pixels = np.random.default_rng(0).integers(0, 256, (count + 1, 2, 2, 3), dtype=np.uint8)
    decoded = Decoded(pixels, np.full(count + 1, -1), np.arange(count), np.array([count]), [], "x")
    found = []
    for size, accumulated in ((12, 1), (12 // batches, batches)):
        model = torch.nn.Linear(1, 1, bias=False).double()
        torch.nn.init.zeros_(model.weight)
        module = MeanOfImages(model, lambda each: torch.optim.SGD(each, lr=1.0), constant, 0, {})
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = Trainer(
            max_epochs=2, accelerator="cpu", accumulate_grad_batches=accumulated, default_root_dir=tmp_path, **quiet
        )
        trainer.fit(module, Images(decoded, size))
        found.append((trainer.global_step, list(dict.fromkeys(module.weights))))
    (steps, wanted), (accumulated_steps, weights) = found
    assert accumulated_steps == steps == 2 * -(-count // 12)
    assert len(wanted) == steps
    assert weights == pytest.approx([0.0] * (batches > 1) + wanted, rel=1e-12)


@pytest.mark.parametrize(("scaling", "factor"), [("linear", 4), ("sqrt", 2), (None, 1)])
def test_the_rate_grows_with_the_devices_and_is_kept_on_another_number_of_them(scaling, factor):
    def on(devices: int):
        sgd, model = partial(torch.optim.SGD, lr=0.1), torch.nn.Linear(1, 1)
        module = Training(model, sgd, constant, 0, {}, budget=Budget(steps=9), lr_scaling=scaling)
        module._trainer = SimpleNamespace(world_size=devices)
        made = module.configure_optimizers()
        return made["optimizer"], made["lr_scheduler"]["scheduler"]

    optimizer, scheduler = on(4)
    assert scheduler.get_last_lr() == [pytest.approx(0.1 * factor)]
    other, its_scheduler = on(1)  # goes on, as Lightning has it
    other.load_state_dict(optimizer.state_dict())
    its_scheduler.load_state_dict(scheduler.state_dict())
    put_at(its_scheduler, 3)
    assert [group["lr"] for group in other.param_groups] == its_scheduler.get_last_lr() == scheduler.get_last_lr()
