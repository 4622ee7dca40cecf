"""What every network keeps to: f(noisy, level, label) -> `outputs` images of the same size."""

from functools import partial
from importlib.util import find_spec

import pytest
import torch
from hydra.utils import instantiate

from diffusion_lab.commands.checks import plain
from diffusion_lab.errors import UserError
from diffusion_lab.networks.adm_unet import ADMUNet
from diffusion_lab.networks.diffusers_unet import DiffusersUNet
from diffusion_lab.networks.dit import DiT
from diffusion_lab.networks.reference_unet import ReferenceUNet
from diffusion_lab.networks.score_unet import ScoreUNet
from diffusion_lab.networks.unet import UNet
from diffusion_lab.networks.uvit import UViT
from tests.conftest import PROJECT, composed
from tests.networks.test_unet import waken

FILES = sorted(path.stem for path in (PROJECT / "conf" / "network").glob("*.yaml"))
MILLIONS = {
    "adm_unet": 57,
    "ddpm_unet": 36,
    "ddpmpp": 56,
    "ncsnpp": 56,
    "diffusers": 36,
    "dit": 5.5,
    "dit_b": 130,
    "dit_s": 32,
}
LABELLED = {
    "unet": partial(UNet, widths=(8, 8)),
    "ddpm_unet": partial(ADMUNet, width=8, multipliers=(1, 2), blocks=1, attention=(8,)),
    "adm_unet": partial(
        ADMUNet,
        width=8,
        multipliers=(1, 2, 3),
        blocks=1,
        attention=(8, 4),
        head_channels=8,
        scale_shift=True,
        residual_resampling=True,
    ),
    "ddpmpp": partial(ScoreUNet, width=8, multipliers=(1, 2), blocks=1, attention=(8,), augmented=0),
    "ncsnpp": partial(
        ScoreUNet,
        width=8,
        multipliers=(1, 1, 2),
        blocks=1,
        attention=(8,),
        augmented=0,
        taps=(1, 3, 3, 1),
        pyramid=True,
        fourier=True,
    ),
    "dit": partial(DiT, patch=4, width=16, depth=2, heads=2),
    "uvit": partial(UViT, patch=4, width=16, depth=2, heads=2),
    "diffusers": partial(
        DiffusersUNet,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
    ),
}
NETWORKS = {"reference_unet": partial(ReferenceUNet, widths=(8, 8), blocks=1), **LABELLED}


def built(name: str, **settings) -> torch.nn.Module:
    if name == "diffusers":
        pytest.importorskip("diffusers")
    torch.manual_seed(0)
    return NETWORKS[name](**{"channels": 3, "image_size": 16, **settings})


def images_and_levels() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, 3, 16, 16), torch.tensor([0.2, 1.1])


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_starts_as_zero_in_the_shape_of_its_outputs(name, outputs):
    output = built(name, outputs=outputs)(*images_and_levels())
    assert output.shape == (2, 3 * outputs, 16, 16)
    assert output.abs().max() == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_takes_images_that_are_not_square(name):
    network = waken(built(name, image_size=(16, 24)))
    noisy, level = torch.randn(2, 3, 16, 24), torch.tensor([0.2, 1.1])
    output = network(noisy, level)
    assert output.shape == noisy.shape
    turned = waken(built(name, image_size=(24, 16)))(noisy.transpose(2, 3).contiguous(), level)
    assert turned.shape == (2, 3, 24, 16)
    with pytest.raises(UserError, match=r"multiple of \d+ px and sees \[16,15\]: change data.image_size$"):
        built(name, image_size=(16, 15))


@pytest.mark.parametrize("name", NETWORKS)
def test_without_classes_labels_are_ignored(name):
    network, (noisy, level) = waken(built(name)), images_and_levels()
    torch.testing.assert_close(network(noisy, level, torch.tensor([3, -1])), network(noisy, level), rtol=0, atol=0)


@pytest.mark.parametrize("name", LABELLED)
def test_label_matters_and_no_label_is_one_of_its_own(name):
    network, (noisy, level) = waken(built(name, num_classes=10)), images_and_levels()
    three, nine, hidden = (network(noisy, level, torch.tensor([label, 0])) for label in (3, 9, -1))
    for other in (nine, hidden):
        assert (three - other)[0].abs().max() > 1e-5
        torch.testing.assert_close(three[1], other[1])  # the second image's label is the same
    torch.testing.assert_close(network(noisy, level), network(noisy, level, torch.tensor([-1, -1])), rtol=0, atol=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_level_matters_within_the_unit_interval_and_beyond(name):
    network, (noisy, _) = waken(built(name)), images_and_levels()
    first, second, third = (network(noisy, torch.full((2,), level)) for level in (0.1, 0.7, -1.6))
    assert (first - second).abs().max() > 1e-5
    assert (first - third).abs().max() > 1e-5


@pytest.mark.parametrize("name", NETWORKS)
def test_all_parameters_learn(name):
    network, (noisy, level) = waken(built(name)).train(), images_and_levels()
    network(noisy, level).square().mean().backward()
    assert [key for key, parameter in network.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("name", NETWORKS)
def test_gives_the_same_in_either_memory_layout(name):
    network, (noisy, level) = waken(built(name)), images_and_levels()
    contiguous = network(noisy, level)
    channels_last = torch.channels_last
    laid = network.to(memory_format=channels_last)(noisy.contiguous(memory_format=channels_last), level)
    torch.testing.assert_close(laid, contiguous, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_wrong_size_names_the_multiple(name):
    if name == "diffusers":
        pytest.importorskip("diffusers")
    with pytest.raises(UserError, match=r"multiple of \d+ px and sees 15: change data.image_size$"):
        NETWORKS[name](channels=3, image_size=15)


@pytest.mark.parametrize("name", FILES)
def test_each_config_builds_in_the_size_it_says(name):
    if name == "diffusers" and not find_spec("diffusers"):
        pytest.skip("diffusers is not installed")
    config = plain(composed("train", f"network={name}", "data=cifar10", "data.image_size=64"))
    with torch.device("meta"):
        network = instantiate(config["network"])
    size = sum(p.numel() for p in network.parameters()) / 1e6
    assert name not in MILLIONS or round(size, 0 if size > 10 else 1) == MILLIONS[name]
