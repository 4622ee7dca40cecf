import pytest
import torch
from torch import nn

from diffusion_lab.errors import UserError
from diffusion_lab.networks.dit import Block, DiT, SelfAttention, sincos_positions
from tests.networks.test_unet import waken


@pytest.mark.parametrize(
    ("width", "depth", "heads", "published"),
    [(384, 12, 6, 33), (768, 12, 12, 130), (1024, 24, 16, 458), (1152, 28, 16, 675)],
)
def test_parameter_counts_of_the_paper(width, depth, heads, published):
    with torch.device("meta"):
        network = DiT(4, 32, 1000, 2, patch=2, width=width, depth=depth, heads=heads)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6) == published


def test_positions_equal_diffusers():
    pytest.importorskip("diffusers")
    from diffusers.models.embeddings import get_2d_sincos_pos_embed

    expected = get_2d_sincos_pos_embed(32, 6, base_size=6, output_type="pt").float()
    torch.testing.assert_close(sincos_positions(6, 32), expected, atol=1e-5, rtol=0)


def test_block_with_open_gates_equals_torchs():
    torch.manual_seed(0)
    block = Block(16, heads=4, mlp_ratio=2)
    nn.init.zeros_(block.modulation.weight)
    block.modulation.bias.data = torch.tensor([0.0, 0, 1, 0, 0, 1]).repeat_interleave(16)  # no shift, no scale, gate 1
    peer = nn.TransformerEncoderLayer(
        16, 4, 32, dropout=0, activation=nn.GELU("tanh"), layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )
    copied = {"self_attn.in_proj_": block.attention.qkv, "self_attn.out_proj.": block.attention.out}
    copied |= {"linear1.": block.mlp[0], "linear2.": block.mlp[2]}
    weights = {prefix + key: value for prefix, layer in copied.items() for key, value in layer.state_dict().items()}
    peer.load_state_dict(peer.state_dict() | weights)
    tokens = torch.randn(2, 5, 16)
    torch.testing.assert_close(block(tokens, torch.randn(2, 16)), peer(tokens), atol=1e-5, rtol=1e-4)


def test_blocks_start_as_the_identity():
    network = DiT(3, 8, width=16, depth=2, heads=2)
    tokens = torch.randn(2, 5, 16)
    for block in network.blocks:
        torch.testing.assert_close(block(tokens, torch.randn(2, 16)), tokens, rtol=0, atol=0)


def test_a_token_comes_out_where_it_went_in():
    network = waken(DiT(3, 12, patch=4, width=16, depth=0, heads=2))
    noisy, level = torch.randn(1, 3, 12, 12), torch.rand(1)
    other = noisy.clone()
    other[..., 5, 9] += 1
    changed = (network(noisy, level) != network(other, level)).flatten(0, 1).any(0)
    expected = torch.zeros(12, 12, dtype=torch.bool)
    expected[4:8, 8:12] = True
    assert torch.equal(changed, expected)


def test_unsuited_widths_are_named():
    with pytest.raises(UserError, match=r"network.heads=5 does not divide a width of 16"):
        SelfAttention(16, heads=5)
    with pytest.raises(UserError, match=r"network.width=18 .* multiple of 4"):
        DiT(3, 8, width=18, heads=2)
