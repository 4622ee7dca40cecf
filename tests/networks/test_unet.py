import pytest
import torch
from torch import nn

from diffusion_lab.errors import UserError
from diffusion_lab.networks.unet import Attention, ChannelNorm, UNet


def waken(module: nn.Module) -> nn.Module:
    """Give the zero-initialised layers weights, so that every path shows in the output."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        if parameter.abs().sum() == 0:
            nn.init.normal_(parameter, std=0.1)
    return module.eval()


@pytest.mark.parametrize("blocks", [1, 2])
def test_keeps_the_shape_at_any_size_and_channels(blocks):
    network = UNet(channels=3, image_size=32, widths=(16, 24, 32), heads=(0, 0, 2), blocks=blocks)
    assert network(torch.randn(2, 3, 32, 32), torch.rand(2)).shape == (2, 3, 32, 32)


def test_label_matters_and_no_label_is_one_of_its_own():
    network = waken(UNet(channels=1, image_size=28, num_classes=10, widths=(16, 16)))
    noisy, level = torch.randn(1, 1, 28, 28), torch.rand(1)
    three, four, hidden = (network(noisy, level, torch.tensor([label])) for label in (3, 4, -1))
    assert (three - four).abs().max() > 1e-4
    assert (three - hidden).abs().max() > 1e-4
    torch.testing.assert_close(network(noisy, level, None), hidden, rtol=0, atol=0)


def test_level_reaches_the_output():
    network = waken(UNet(channels=1, image_size=28, widths=(16, 16)))
    noisy = torch.randn(1, 1, 28, 28)
    assert (network(noisy, torch.tensor([0.1])) - network(noisy, torch.tensor([0.9]))).abs().max() > 1e-4


def test_attention_equals_torchs():
    attention = waken(Attention(16, heads=2))
    x = torch.randn(2, 16, 5, 5)
    tokens = attention.norm(x).flatten(2).transpose(1, 2)
    other = nn.MultiheadAttention(16, 2, batch_first=True)
    other.load_state_dict(
        {
            "in_proj_weight": attention.qkv.weight,
            "in_proj_bias": attention.qkv.bias,
            "out_proj.weight": attention.out.weight,
            "out_proj.bias": attention.out.bias,
        }
    )
    expected = x + other(tokens, tokens, tokens)[0].transpose(1, 2).view_as(x)
    torch.testing.assert_close(attention(x), expected, atol=1e-5, rtol=1e-4)


def test_channel_norm_normalises_each_pixel():
    y = ChannelNorm(64)(torch.randn(2, 64, 3, 3) * 5 + 2)
    torch.testing.assert_close(y.mean(1), torch.zeros(2, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var(1, correction=0), torch.ones(2, 3, 3), atol=1e-3, rtol=0)


def test_wrong_size_names_the_multiple():
    with pytest.raises(UserError, match=r"multiple of 4 px and sees 30: change data.image_size"):
        UNet(channels=1, image_size=30)


def test_what_was_done_to_an_image_matters_and_zeros_are_nothing():
    torch.manual_seed(0)
    network = waken(UNet(1, 8, widths=(8, 8), heads=(0, 0), augmented=9))
    noisy, level = torch.randn(2, 1, 8, 8), torch.tensor([0.2, 0.9])
    told = network(noisy, level, augmented=torch.eye(9)[:2])
    assert (told - network(noisy, level)).abs().max() > 1e-4
    torch.testing.assert_close(network(noisy, level, augmented=torch.zeros(2, 9)), network(noisy, level), rtol=0, atol=0)
    assert not any("augmented" in name for name, _ in UNet(1, 8).named_parameters())
