import torch

from diffusion_lab.autoencoder import Autoencoder
from diffusion_lab.networks.autoencoder import KLAutoencoder
from diffusion_lab.spaces.pixels import Symmetric
from diffusion_lab.training.autoencoder import AutoencoderTraining
from diffusion_lab.training.perceptual import EfficientNetDistance, none


def training(distance=none, **weights) -> AutoencoderTraining:
    torch.manual_seed(0)
    model = Autoencoder(KLAutoencoder(3, 16, widths=(8, 8)), Symmetric(3, 16))
    weights = {"perceptual": 0.0, "kl": 0.0, "adversarial": 0.0, **weights}
    return AutoencoderTraining(model, distance, **weights, optimizer=None, learning_rate=None, seed=0, config={})


def test_terms_are_those_of_the_paper():
    image, noise = torch.rand(4, 3, 16, 16) * 2 - 1, torch.randn(4, 4, 4, 4)
    plain, weighed = training(), training(kl=0.5)
    mean, log_variance = plain.model.network.moments(image).chunk(2, 1)
    made = plain.model.network.decode(mean + (0.5 * log_variance).exp() * noise)
    l1 = (made - image).abs().mean()
    torch.testing.assert_close(plain.objective(image, noise), l1)
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    divergence = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0, 1)).mean()
    torch.testing.assert_close(weighed.objective(image, noise), l1 + 0.5 * divergence)


def test_each_side_of_the_adversarial_term_moves_its_own_weights():
    module = training(adversarial=0.5)
    made, image = torch.rand(2, 3, 16, 16, requires_grad=True), torch.rand(2, 3, 16, 16)
    module._adversarial(made, image).backward()
    own = [weights.grad.clone() for weights in module.discriminator.parameters()]
    judged = made.detach().clone().requires_grad_()
    (-0.5 * module.discriminator(judged).mean()).backward()
    torch.testing.assert_close(made.grad, judged.grad)
    module.discriminator.zero_grad()
    judge = module.discriminator
    ((1 - judge(image)).relu().mean() + (1 + judge(made.detach())).relu().mean()).backward()
    for mine, alone in zip(own, judge.parameters(), strict=True):
        torch.testing.assert_close(mine, alone.grad)


def test_the_perceptual_distance_grows_with_blur_and_is_no_part_of_the_module():
    distance = EfficientNetDistance()
    torch.manual_seed(0)
    image = torch.rand(2, 1, 32, 32) * 2 - 1
    near, far = (image + strength * torch.randn_like(image) for strength in (0.05, 0.5))
    assert distance(image, image).abs().max() == 0
    assert (distance(image, near) < distance(image, far)).all()
    module = training(distance, perceptual=1.0)
    assert not any("distance" in name for name in module.state_dict())
    near.requires_grad_()
    distance(near, image).sum().backward()
    assert near.grad.abs().max() > 0
    assert all(weights.grad is None for weights in distance.network.parameters())
