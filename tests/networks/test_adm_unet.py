import pytest
import torch
from torch import nn

from diffusion_lab.errors import UserError
from diffusion_lab.networks.adm_unet import ADMUNet, Attention
from tests.networks.test_unet import waken

IMPROVED = {"blocks": 3, "attention": (16, 8), "heads": 4, "scale_shift": True, "dropout": 0.3}
ADM = {
    "width": 192,
    "multipliers": (1, 2, 3, 4),
    "blocks": 3,
    "attention": (32, 16, 8),
    "head_channels": 64,
    "scale_shift": True,
    "residual_resampling": True,
}


def parameters(*arguments, **settings) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in ADMUNet(*arguments, **settings).parameters())


def test_parameter_counts_of_the_papers():
    assert parameters(3, 32) == 35_746_307  # DDPM, CIFAR-10
    assert round(parameters(3, 32, outputs=2, **IMPROVED) / 1e6, 1) == 52.5  # improved DDPM, CIFAR-10
    no_label = 4 * 192  # one more row than theirs
    assert round((parameters(3, 64, 1000, 2, **ADM) - no_label) / 1e6, 1) == 295.9  # ADM, ImageNet at 64 px


def layers(network: nn.Module, *inputs) -> list[nn.Module]:
    """The layers with weights, in the order in which they run."""
    found = []
    for module in network.modules():
        if not list(module.children()) and list(module.parameters()):
            module.register_forward_hook(lambda module, *_: found.append(module))
    with torch.no_grad():
        network(*inputs)
    return found


@torch.no_grad()
def copy_weights(theirs: list[nn.Module], ours: list[nn.Module]) -> None:
    """Layer by layer; of ours, one may stand for several of theirs, as for queries, keys and values."""
    theirs = iter(theirs)
    for layer in ours:
        parts = [next(theirs)]
        while sum(len(part.weight) for part in parts) < len(layer.weight):
            parts.append(next(theirs))
        layer.load_state_dict(
            {key: torch.cat([part.state_dict()[key] for part in parts]) for key in layer.state_dict()}, strict=True
        )
    assert next(theirs, None) is None


SETTINGS_OF_BOTH = {
    "ddpm": (
        {},
        {
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            "attention_head_dim": None,
            "downsample_padding": 0,
        },
    ),
    "adm": (
        {"head_channels": 64, "scale_shift": True, "residual_resampling": True},
        {
            "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"),
            "up_block_types": ("ResnetUpsampleBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
            "attention_head_dim": 64,
            "downsample_type": "resnet",
            "upsample_type": "resnet",
            "resnet_time_scale_shift": "scale_shift",
            "attn_norm_num_groups": 32,  # the middle would attend without normalisation else
        },
    ),
}


@pytest.mark.parametrize("name", SETTINGS_OF_BOTH)
def test_equals_diffusers_with_the_same_weights(name):
    diffusers = pytest.importorskip("diffusers")
    settings, their_settings = SETTINGS_OF_BOTH[name]
    torch.manual_seed(0)
    network = ADMUNet(3, 8, 10, 1, width=128, multipliers=(1, 2, 2), attention=(4,), blocks=1, **settings).eval()
    peer = diffusers.UNet2DModel(
        in_channels=3,
        layers_per_block=1,
        block_out_channels=(128, 256, 256),
        num_class_embeds=11,
        flip_sin_to_cos=False,
        freq_shift=1,
        **their_settings,
    ).eval()
    noisy, level, label = torch.randn(2, 3, 8, 8), torch.tensor([0.06, 0.71]), torch.tensor([4, 10])
    copy_weights(layers(peer, noisy, 1000 * level, label), layers(network, noisy, level, label))
    weight = network.level[1].weight  # their frequencies go from fast to slow
    weight.data = weight.unflatten(1, (2, -1)).flip(2).flatten(1)
    with torch.no_grad():
        ours, theirs = network(noisy, level, torch.tensor([4, -1])), peer(noisy, 1000 * level, label).sample
    assert theirs.std() > 0.1
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


def test_attention_equals_torchs():
    attention = waken(Attention(16, heads=2, head_channels=0))
    x = torch.randn(2, 16, 5, 5)
    tokens = attention.norm(x).flatten(2).transpose(1, 2)
    other = nn.MultiheadAttention(16, 2, batch_first=True)
    other.load_state_dict(
        {
            "in_proj_weight": attention.attention.qkv.weight,
            "in_proj_bias": attention.attention.qkv.bias,
            "out_proj.weight": attention.attention.out.weight,
            "out_proj.bias": attention.attention.out.bias,
        }
    )
    expected = x + other(tokens, tokens, tokens)[0].transpose(1, 2).view_as(x)
    torch.testing.assert_close(attention(x), expected, atol=1e-5, rtol=1e-4)


def test_attends_at_the_resolutions_asked_for_and_in_the_middle():
    network = ADMUNet(3, 16, width=8, multipliers=(1, 1, 1), blocks=1, attention=(8, 2))
    sizes = []
    for module in network.modules():
        if isinstance(module, Attention):
            module.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[-1]))
    network(torch.randn(1, 3, 16, 16), torch.rand(1))
    assert sizes == [8, 4, 8, 8]


def test_dropout_is_for_training():
    network = waken(ADMUNet(1, 8, width=8, multipliers=(1,), blocks=1, dropout=0.5))
    noisy, level = torch.randn(1, 1, 8, 8), torch.rand(1)
    torch.testing.assert_close(network(noisy, level), network(noisy, level), rtol=0, atol=0)
    network.train()
    assert (network(noisy, level) - network(noisy, level)).abs().max() > 1e-4


@pytest.mark.parametrize("settings", [{"heads": 3}, {"head_channels": 24}])
def test_heads_that_do_not_divide_the_width_are_named(settings):
    (name, value) = next(iter(settings.items()))
    with pytest.raises(UserError, match=f"network.{name}={value} does not divide a width of 32"):
        ADMUNet(1, 16, width=32, multipliers=(1, 1), **settings)
