"""Self-attention, as the networks from papers have it."""

import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lab.errors import UserError


class SelfAttention(nn.Module):
    """Multi-head self-attention over tokens (B, N, width); the rows of `qkv` are all queries', then keys', then values'.

    Raises:
        UserError: `heads` do not divide `width`.
    """

    def __init__(self, width: int, heads: int, qkv_bias: bool = True):
        super().__init__()
        if width % heads:
            raise UserError(f"network.heads={heads} does not divide a width of {width}")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
