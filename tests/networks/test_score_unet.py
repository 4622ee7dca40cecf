"""DDPM++ and NCSN++: their sizes, counted layer by layer, and their blocks against diffusers'."""

import math

import pytest
import torch
from hydra.utils import instantiate

from diffusion_lab.errors import UserError
from diffusion_lab.networks.score_unet import Pyramid, Resampling, ResidualBlock, ScoreUNet
from tests.conftest import composed
from tests.networks.test_unet import waken


def conv(channels: int, width: int, side: int = 3) -> int:
    return side * side * channels * width + width


def block(channels: int, width: int, resampled: bool = False, attends: bool = False) -> int:
    """Two normalisations, two convolutions, the condition, the skip connection, and attention of queries, keys, values."""
    body = 2 * channels + conv(channels, width) + conv(512, width, 1) + 2 * width + conv(width, width)
    skip = conv(channels, width, 1) if resampled or channels != width else 0
    return body + skip + (2 * width + 4 * conv(width, width, 1) if attends else 0)


def counted(shown: int) -> int:
    """EDM's DDPM++ for CIFAR-10 as table 7 and Song et al.'s appendix H describe it: 256 channels at 32, 16 and 8 px."""
    condition = 9 * shown + (shown * 512 + 512) + (512 * 512 + 512)
    down32 = block(128, 256) + 3 * block(256, 256)
    down16 = block(256, 256, resampled=True) + 4 * block(256, 256, attends=True)
    down8 = block(256, 256, resampled=True) + 4 * block(256, 256)
    middle = block(256, 256, attends=True) + block(256, 256)
    up8 = 5 * block(512, 256)
    up16 = block(256, 256, resampled=True) + 4 * block(512, 256) + block(512, 256, attends=True)
    up32 = block(256, 256, resampled=True) + 4 * block(512, 256) + block(256 + 128, 256)  # the last skip is the stem's
    ends = conv(3, 128) + 2 * 256 + conv(256, 3)
    return condition + down32 + down16 + down8 + middle + up8 + up16 + up32 + ends


SIZES = {"ddpmpp": counted(128), "ncsnpp": counted(256) + conv(3, 256) + conv(256, 256)}


@pytest.mark.parametrize(("name", "size"), [("ddpmpp", 55_733_891), ("ncsnpp", 56_397_827)])
def test_sizes_are_those_counted_layer_by_layer(name, size):
    config = composed("train", f"network={name}", "data=cifar10", "network.num_classes=0").network
    with torch.device("meta"):
        network = instantiate(config)
    assert sum(parameter.numel() for parameter in network.parameters()) == SIZES[name] == size


@torch.no_grad()
def same_weights(ours: ResidualBlock, theirs, attention=None) -> None:
    pairs = {"norm1": "norm1", "conv1": "conv1", "condition": "time_emb_proj", "norm2": "norm2", "conv2": "conv2"}
    pairs |= {"residual": "conv_shortcut"} if list(ours.residual.parameters()) else {}
    for mine, other in pairs.items():
        getattr(ours, mine).load_state_dict(getattr(theirs, other).state_dict())
    if attention:
        ours.norm3.load_state_dict(attention.group_norm.state_dict())
        ours.attention.out.load_state_dict(attention.to_out[0].state_dict())
        for key, parameter in ours.attention.qkv.named_parameters():
            parts = (attention.to_q, attention.to_k, attention.to_v)
            parameter.copy_(torch.cat([dict(part.named_parameters())[key] for part in parts]))


@pytest.mark.parametrize(
    "change", [{}, {"down": True}, {"up": True}, {"down": True, "fir": True}, {"up": True, "fir": True}]
)
def test_residual_block_equals_diffusers(change):
    resnet = pytest.importorskip("diffusers.models.resnet")
    torch.manual_seed(0)
    settings = {"output_scale_factor": math.sqrt(2), "eps": 1e-6, "temb_channels": 16}
    directions = {key: True for key in ("down", "up") if key in change}
    kernel = "fir" if "fir" in change else "sde_vp" if change else None
    theirs = resnet.ResnetBlock2D(
        in_channels=128, out_channels=128, use_in_shortcut=bool(change), kernel=kernel, **directions, **settings
    ).eval()
    taps = (1, 3, 3, 1) if "fir" in change else (1, 1)
    resampling = Resampling(taps, up="up" in change) if change else None
    ours = ResidualBlock(128, 128, 16, 0.0, resampling).eval()
    same_weights(ours, theirs)
    x, condition = torch.randn(2, 128, 8, 8), torch.randn(2, 16)
    with torch.no_grad():
        found, expected = ours(x, torch.nn.functional.silu(condition)), theirs(x, condition)  # theirs takes it before
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_attention_after_a_block_equals_diffusers():
    processor = pytest.importorskip("diffusers.models.attention_processor")
    resnet = pytest.importorskip("diffusers.models.resnet")
    torch.manual_seed(0)
    theirs = resnet.ResnetBlock2D(in_channels=128, out_channels=128, temb_channels=16, eps=1e-6, output_scale_factor=2**0.5)
    attention = processor.Attention(
        128, heads=1, dim_head=128, rescale_output_factor=2**0.5, eps=1e-6, norm_num_groups=32, residual_connection=True,
        bias=True, upcast_softmax=True, _from_deprecated_attn_block=True,
    )  # fmt: skip
    ours = ResidualBlock(128, 128, 16, 0.0, attends=True)
    same_weights(ours, theirs, attention)
    x, condition = torch.randn(2, 128, 8, 8), torch.randn(2, 16)
    with torch.no_grad():
        found, expected = ours(x, torch.nn.functional.silu(condition)), attention(theirs(x, condition))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_the_pyramid_equals_diffusers():
    downsampling = pytest.importorskip("diffusers.models.downsampling")
    torch.manual_seed(0)
    theirs, ours = downsampling.FirDownsample2D(3, 8, use_conv=True), Pyramid(3, 8, (1, 3, 3, 1))
    ours.conv.load_state_dict(theirs.Conv2d_0.state_dict())
    image, features = torch.randn(2, 3, 16, 16), torch.randn(2, 8, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(ours(image, features), (theirs(image) + features) / math.sqrt(2), atol=1e-5, rtol=1e-5)


def test_attends_in_each_block_down_and_in_the_last_one_up():
    network = ScoreUNet(3, 16, width=8, multipliers=(1, 1), blocks=2, attention=(16,))
    assert [block.attention is not None for block in network.down[0]] == [True, True]
    assert [block.attention is not None for block in network.down[1]] == [False] * 3
    assert [block.attention is not None for block in network.middle] == [True, False]
    assert [block.attention is not None for block in network.up[1]] == [False, False, False, True]


def test_what_was_done_to_an_image_matters_and_nothing_is_zeros():
    network = waken(ScoreUNet(3, 16, width=8, multipliers=(1, 1), blocks=1, attention=()))
    noisy, level = torch.randn(2, 3, 16, 16), torch.tensor([0.1, -1.2])
    plain = network(noisy, level)
    torch.testing.assert_close(network(noisy, level, augmented=torch.zeros(2, 9)), plain, rtol=0, atol=0)
    turned = network(noisy, level, augmented=torch.eye(9)[[3, 4]])
    assert (turned - plain).abs().amax((1, 2, 3)).min() > 1e-4


@pytest.mark.parametrize("fourier", [False, True])
def test_the_level_is_shown_as_waves(fourier):
    """Of up to 1 radian per unit, or of random frequencies of deviation 16 cycles per unit."""
    torch.manual_seed(0)
    angular = ScoreUNet(3, 8, multipliers=(1,), blocks=1, fourier=fourier).waves.angular
    if fourier:
        assert len(angular) == 128
        assert angular.std().item() == pytest.approx(2 * math.pi * 16, rel=0.2)
    else:
        torch.testing.assert_close(angular, 10 ** torch.linspace(-4, 0, 64), rtol=1e-4, atol=0)


@pytest.mark.parametrize("taps", [[1], [1, 2, 1]])
def test_an_odd_number_of_taps_is_named(taps):
    with pytest.raises(UserError, match="an even number of taps"):
        ScoreUNet(3, 8, width=8, multipliers=(1,), taps=taps)
