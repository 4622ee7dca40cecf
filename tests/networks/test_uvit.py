import pytest
import torch
from torch import nn

from diffusion_lab.errors import UserError
from diffusion_lab.networks.uvit import Block, UViT
from tests.networks.test_unet import waken


def test_parameter_counts_of_the_paper():
    with torch.device("meta"):
        small = UViT(3, 32)  # U-ViT-S/2, CIFAR-10
        middle = UViT(3, 64, 1000, patch=4, width=768, depth=16, heads=12)  # U-ViT-M/4, ImageNet at 64 px
    assert [round(sum(p.numel() for p in network.parameters()) / 1e6) for network in (small, middle)] == [44, 131]


def test_block_equals_torchs():
    torch.manual_seed(0)
    block = Block(16, heads=4, mlp_ratio=2)
    peer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0, activation="gelu", batch_first=True, norm_first=True)
    copied = {"self_attn.in_proj_": block.attention.qkv, "self_attn.out_proj.": block.attention.out}
    copied |= {"linear1.": block.mlp[0], "linear2.": block.mlp[2], "norm1.": block.norm1, "norm2.": block.norm2}
    weights = {prefix + key: value for prefix, layer in copied.items() for key, value in layer.state_dict().items()}
    peer.load_state_dict(peer.state_dict() | weights)  # whose bias of queries, keys and values starts at zero
    tokens = torch.randn(2, 5, 16)
    torch.testing.assert_close(block(tokens), peer(tokens), atol=1e-5, rtol=1e-4)


def test_the_first_block_is_joined_to_the_last():
    network = UViT(3, 8, width=16, depth=4, heads=2)
    left, joined = [], []
    for block in network.down:
        block.register_forward_hook(lambda block, inputs, output: left.append(output))
    for block in network.up:
        block.register_forward_hook(lambda block, inputs, output: joined.append(inputs[1]))
    network(torch.randn(1, 3, 8, 8), torch.rand(1))
    assert all(mine is theirs for mine, theirs in zip(joined, reversed(left), strict=True))


@pytest.mark.parametrize("num_classes", [0, 10])
def test_a_patch_comes_out_where_it_went_in(num_classes):
    network = waken(UViT(3, 12, num_classes, patch=4, width=16, depth=0, heads=2))
    network.middle = nn.Identity()
    noisy, level = torch.randn(1, 3, 12, 12), torch.rand(1)
    other = noisy.clone()
    other[..., 5, 9] += 1
    changed = (network(noisy, level) != network(other, level)).flatten(0, 1).any(0)
    expected = torch.zeros(12, 12, dtype=torch.bool)
    expected[3:9, 7:12] = True  # the last convolution reaches one pixel further
    assert torch.equal(changed, expected)


def test_odd_depth_is_refused():
    with pytest.raises(UserError, match=r"network.depth=3 .* even number"):
        UViT(3, 8, depth=3)
