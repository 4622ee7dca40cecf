import torch

from diffusion_lab.data.images import Batch
from diffusion_lab.process.schedules import Cosine
from diffusion_lab.process.times import uniform
from diffusion_lab.process.weightings import uniform as equal_weights
from diffusion_lab.training.learning_rates import constant
from diffusion_lab.training.module import DiffusionTraining
from tests.sampling.ideal import GaussianNetwork, ideal_denoiser


class LabelRecorder(GaussianNetwork):
    def forward(self, noisy, level, label=None):
        self.label = label
        return super().forward(noisy, level, label)


def training(loss: torch.nn.Module, label_dropout: float = 0.0) -> DiffusionTraining:
    denoiser = ideal_denoiser(LabelRecorder(0.0, 1.0), Cosine())
    module = DiffusionTraining(
        denoiser, loss, equal_weights, uniform, torch.optim.AdamW, constant, label_dropout, seed=0, config={}
    )
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
    labels = module.denoiser.network.label
    assert set(labels.tolist()) == {-1, 3}
    assert abs((labels == -1).float().mean() - 0.1) < 0.02
