"""Guidance against closed forms: a Gaussian for each class, whose guided versions and classifier are known."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from diffusion_lab.classifier import NoisyClassifier
from diffusion_lab.conditions import Classes
from diffusion_lab.errors import UserError
from diffusion_lab.process.levels import signal_power
from diffusion_lab.process.schedules import Cosine, Flow, Linear
from diffusion_lab.process.targets import Noise, Velocity
from diffusion_lab.sampling.draw import NetworkCalls
from diffusion_lab.sampling.guidance import ClassifierFreeGuidance, ClassifierGuidance
from diffusion_lab.sampling.samplers import ddim, dpm_solver
from diffusion_lab.spaces.pixels import Pixels
from tests.sampling.ideal import GaussianNetwork, LabelledNetwork, MixtureNetwork, ideal_denoiser

SCHEDULE = Cosine(0.999, 0.002)
MEANS, STD = (-1.0, 2.0), 0.5


class GaussianClassifier(nn.Module):
    """The exact posterior of two equally likely classes whose pixels are Gaussian (shown the signal power)."""

    def forward(self, noisy: Tensor, level: Tensor) -> Tensor:
        signal_rate, level = level.sqrt().view(-1, 1, 1, 1), level.view(-1, 1, 1, 1)
        variance = level * STD**2 + 1 - level
        return torch.stack([-((noisy - signal_rate * m) ** 2 / variance / 2).sum((1, 2, 3)) for m in MEANS], 1)


def gaussians(unconditional: nn.Module):
    return ideal_denoiser(LabelledNetwork(*(GaussianNetwork(m, STD) for m in MEANS), unconditional), SCHEDULE)


def mixture():
    both = MixtureNetwork(torch.tensor([0.5, 0.5]), torch.tensor(MEANS), torch.tensor([STD, STD]))
    return gaussians(both)


def exact_classifier(schedule=SCHEDULE):
    return NoisyClassifier(GaussianClassifier(), schedule, signal_power, Pixels(1, 4), Classes(2))


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0])
def test_a_guided_gaussian_moves_in_proportion_to_the_scale(scale):
    """With one spread for all, scores add to that of N(unconditional + scale * (conditional - unconditional), std ** 2)."""
    torch.manual_seed(0)
    guided = ClassifierFreeGuidance(gaussians(GaussianNetwork(0.5, STD)), scale)
    label = torch.arange(2).repeat(10_000)
    drawn = dpm_solver(guided, torch.randn(20_000, 1, 1, 1), label, steps=60).flatten()
    for k, mean in enumerate(MEANS):
        assert drawn[label == k].mean() == pytest.approx(0.5 + scale * (mean - 0.5), abs=0.03)
        assert drawn[label == k].std() == pytest.approx(STD, abs=0.02)


def test_the_exact_classifier_turns_the_mixture_into_a_class():
    torch.manual_seed(0)
    guided = ClassifierGuidance(mixture(), exact_classifier())
    label = torch.tensor([0, 1, -1]).repeat(5000)
    with torch.inference_mode():
        drawn = dpm_solver(guided, torch.randn(15_000, 1, 1, 1), label, steps=60).flatten()
    for k, mean in enumerate(MEANS):
        assert drawn[label == k].mean() == pytest.approx(mean, abs=0.03)
        assert drawn[label == k].std() == pytest.approx(STD, abs=0.02)
    assert drawn[label == -1].mean() == pytest.approx(sum(MEANS) / 2, abs=0.08)
    assert drawn[label == -1].std() > 1.5


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 4.0])
def test_both_guidances_are_one_by_bayes_rule(scale):
    torch.manual_seed(0)
    noisy, time, label = torch.randn(64, 1, 1, 1), torch.rand(64), torch.randint(-1, 2, (64,))
    free = ClassifierFreeGuidance(mixture(), scale)(noisy, time, label)
    by_classifier = ClassifierGuidance(mixture(), exact_classifier(), scale)(noisy, time, label)
    torch.testing.assert_close(free.noise, by_classifier.noise, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(free.image, by_classifier.image, atol=1e-3, rtol=1e-3)
    signal_rate, noise_rate = mixture().rates(time)
    torch.testing.assert_close(signal_rate * free.image + noise_rate * free.noise, noisy, atol=1e-5, rtol=1e-4)


def test_two_passes_run_as_one_batch_and_count_as_two():
    denoiser = mixture()
    sizes = []
    denoiser.network.register_forward_hook(lambda network, arguments, output: sizes.append(len(output)))
    for scale, size in ((3.0, 10), (1.0, 5)):
        with NetworkCalls(denoiser) as calls:
            ClassifierFreeGuidance(denoiser, scale)(torch.randn(5, 1, 1, 1), torch.rand(5), torch.zeros(5).long())
        assert sizes.pop() == size == calls.count


def test_guidance_keeps_to_its_interval_of_noise_levels():
    torch.manual_seed(0)
    noisy, time, label = torch.randn(100, 1, 1, 1), torch.linspace(0, 1, 100), torch.zeros(100).long()
    signal_rate, noise_rate = SCHEDULE(time)
    within = (noise_rate / signal_rate > 0.3) & (noise_rate / signal_rate < 2)
    guided, plain = ClassifierFreeGuidance(mixture(), 5.0)(noisy, time, label), mixture()(noisy, time, label)
    limited = ClassifierFreeGuidance(mixture(), 5.0, interval=(0.3, 2))(noisy, time, label)
    torch.testing.assert_close(limited.image[within], guided.image[within])
    torch.testing.assert_close(limited.image[~within], plain.image[~within])
    assert (guided.image - plain.image)[~within].abs().max() > 0.1


@pytest.mark.parametrize("rescale", [0.0, 0.7, 1.0])
def test_rescaling_takes_contrast_back(rescale):
    torch.manual_seed(0)
    denoiser = mixture()
    noisy, time, label = torch.randn(8, 1, 6, 6), torch.full((8,), 0.6), torch.zeros(8).long()
    spreads = [
        around(noisy, time, label).image.std((1, 2, 3))
        for around in (
            denoiser,
            ClassifierFreeGuidance(denoiser, 6.0),
            ClassifierFreeGuidance(denoiser, 6.0, rescale=rescale),
        )
    ]
    torch.testing.assert_close(spreads[2], rescale * spreads[0] + (1 - rescale) * spreads[1])
    assert (spreads[1] / spreads[0] - 1).abs().max() > 0.1


@pytest.mark.parametrize("target", [Noise(), Velocity()], ids=["noise", "velocity"])
def test_rescaling_the_output_is_the_papers(target):
    """Lin et al. 2023, eq. 14 to 16, on what the network predicts in two passes."""
    torch.manual_seed(0)
    denoiser = mixture()
    denoiser.target = target
    noisy, time, label = torch.randn(8, 1, 6, 6), torch.full((8,), 0.6), torch.zeros(8).long()
    rates = denoiser.rates(time)
    text, plain = (target.of(*denoiser(noisy, time, rows)[:2], *rates) for rows in (label, torch.full_like(label, -1)))
    guided = plain + 6.0 * (text - plain)
    rescaled = guided * (text.flatten(1).std(1) / guided.flatten(1).std(1)).view(-1, 1, 1, 1)
    expected = 0.7 * rescaled + 0.3 * guided
    found = ClassifierFreeGuidance(denoiser, 6.0, rescale=0.7, rescale_of="output")(noisy, time, label)
    torch.testing.assert_close(target.of(found.image, found.noise, *rates), expected)
    of_image = ClassifierFreeGuidance(denoiser, 6.0, rescale=0.7)(noisy, time, label)
    assert (of_image.image - found.image).abs().max() > 0.01


def test_without_labels_nothing_is_guided():
    noisy, time = torch.randn(4, 1, 1, 1), torch.rand(4)
    plain = mixture()(noisy, time)
    for guided in (ClassifierFreeGuidance(mixture(), 3.0), ClassifierGuidance(mixture(), exact_classifier(), 3.0)):
        torch.testing.assert_close(guided(noisy, time).noise, plain.noise)


@pytest.mark.parametrize("schedule", [Linear(), Flow()])
def test_a_classifier_of_other_noise_is_refused(schedule):
    with pytest.raises(UserError, match="another schedule"):
        ClassifierGuidance(mixture(), exact_classifier(schedule))


def test_guided_images_do_not_depend_on_the_batch():
    guided = ClassifierFreeGuidance(mixture(), 3.0)
    noise, label = torch.randn(6, 1, 2, 2), torch.tensor([0, 1, -1, 0, 1, -1])
    whole = partial(ddim, guided, steps=5)
    torch.testing.assert_close(whole(noise, label)[2:4], whole(noise[2:4], label[2:4]))
