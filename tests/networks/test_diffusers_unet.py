import sys

import pytest
import torch

from diffusion_lab.commands.checks import plain
from diffusion_lab.errors import UserError
from diffusion_lab.networks.diffusers_unet import DiffusersUNet
from tests.conftest import composed

TINY = {
    "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D"),
    "norm_num_groups": 8,
}


def test_the_config_is_googles_ddpm_for_cifar10():
    pytest.importorskip("diffusers")
    config = plain(composed("train", "network=diffusers", "data=cifar10", "data.num_classes=0"))["network"]
    settings = {key: value for key, value in config.items() if not key.startswith("_")}
    with torch.device("meta"):
        network = DiffusersUNet(**settings)
    assert sum(p.numel() for p in network.parameters()) == 35_746_307


def test_level_is_a_thousandth_of_the_step_and_no_label_the_last_row():
    pytest.importorskip("diffusers")
    network = DiffusersUNet(1, 8, num_classes=3, **TINY).eval()
    asked = []
    network.unet.time_proj.register_forward_hook(lambda module, inputs, output: asked.append(inputs[0].tolist()))
    network.unet.class_embedding.register_forward_hook(lambda module, inputs, output: asked.append(inputs[0].tolist()))
    network(torch.randn(2, 1, 8, 8), torch.tensor([0.0, 0.25]), torch.tensor([2, -1]))
    assert asked == [[0, 250], [2, 3]]


@pytest.mark.parametrize("wrong", [{"widths": (8, 16)}, {"block_out_channels": (8,)}, {"in_channels": 3}])
def test_settings_that_diffusers_refuses_are_one_line(wrong):
    pytest.importorskip("diffusers")
    with pytest.raises(UserError, match=r"^network=diffusers, in UNet2DModel's settings: [^\n]+$"):
        DiffusersUNet(1, 8, **{**TINY, **wrong})


def test_without_diffusers_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(UserError, match=r"needs the package diffusers: pip install diffusers$"):
        DiffusersUNet(1, 8)
