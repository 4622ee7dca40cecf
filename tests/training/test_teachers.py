"""Where targets come from: the data, or another denoiser, which stays as it is."""

import copy

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from diffusion_lab.data.images import Batch
from diffusion_lab.denoiser import NetworkDenoiser
from diffusion_lab.errors import UserError
from diffusion_lab.process.levels import signal_power
from diffusion_lab.process.schedules import Cosine, Linear
from diffusion_lab.process.targets import Image
from diffusion_lab.process.times import stratified
from diffusion_lab.process.weightings import uniform
from diffusion_lab.spaces.pixels import Pixels
from diffusion_lab.training.averaging import ema
from diffusion_lab.training.criteria import Denoising
from diffusion_lab.training.denoiser import DenoiserTraining
from diffusion_lab.training.learning_rates import constant
from diffusion_lab.training.teachers import Data, Teacher
from tests.sampling.ideal import ideal_denoiser
from tests.training.test_choices import TinyNetwork


class Brightness(torch.nn.Module):
    """Estimates every image as one shade, which it could learn to change."""

    def __init__(self, shade: float):
        super().__init__()
        self.shade = torch.nn.Parameter(torch.tensor(shade))

    def forward(self, noisy, level, label=None):
        return self.shade.expand_as(noisy)


def training(teacher) -> DenoiserTraining:
    torch.manual_seed(0)
    student = NetworkDenoiser(TinyNetwork(), Cosine(), Image(), signal_power, Pixels(1, 4))
    criterion = Denoising(torch.nn.MSELoss(reduction="none"), uniform, teacher)
    settings = {"optimizer": lambda p: torch.optim.Adam(p, 3e-3), "learning_rate": constant, "seed": 0, "config": {}}
    return DenoiserTraining(student, criterion, stratified, 0.0, **settings)


def trained(teacher, folder) -> DenoiserTraining:
    """After 400 steps on black images, with averaged weights, as train.py does it."""
    module = training(teacher)
    batch = Batch(torch.zeros(16, 1, 4, 4, dtype=torch.uint8), torch.full((16,), -1), torch.arange(16))
    batches = DataLoader([batch] * 400, batch_size=None)
    quiet = {"enable_progress_bar": False, "logger": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = Trainer(max_epochs=1, callbacks=[ema(0.9)], default_root_dir=folder, limit_val_batches=0, **quiet)
    trainer.fit(module, batches)
    trainer.save_checkpoint(folder / "last.ckpt")
    return module


@pytest.mark.filterwarnings("ignore")
def test_a_student_learns_what_its_teacher_says_and_the_teacher_nothing(tmp_path):
    teacher = ideal_denoiser(Brightness(0.7), Cosine())
    before = copy.deepcopy(teacher.state_dict())
    module = trained(Teacher(teacher), tmp_path)
    noisy, time = torch.randn(50, 1, 4, 4), torch.rand(50)
    taught = module.model(noisy, time).image.mean().item()
    assert taught == pytest.approx(0.7, abs=0.1)  # not 0, the images' own
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert set(saved) == {f"model.{key}" for key in module.model.state_dict()}
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


@pytest.mark.filterwarnings("ignore")
def test_without_a_teacher_the_data_teach(tmp_path):
    module = trained(Data(), tmp_path)
    assert module.model(torch.randn(50, 1, 4, 4), torch.rand(50)).image.mean().item() == pytest.approx(0, abs=0.1)


def test_copies_of_a_training_share_their_teacher():
    module = training(Teacher(ideal_denoiser(Brightness(0.7), Cosine())))
    assert copy.deepcopy(module).criterion.teacher is module.criterion.teacher
    assert {name.split(".")[0] for name, _ in module.named_parameters()} == {"model"}


def test_a_teacher_of_other_noise_is_refused():
    module = training(Teacher(ideal_denoiser(Brightness(0.7), Linear())))
    with pytest.raises(UserError, match="another schedule or on other pixels"):
        module.criterion.check(module.model)
