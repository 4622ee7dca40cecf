"""Less memory for a third more time: what lies within blocks is computed again on the way back (Chen et al. 2016,
arXiv:1604.06174)."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from diffusion_lab.errors import UserError


def checkpoint_blocks(network: nn.Module) -> None:
    """Let the blocks of a network, the members of its ModuleLists, keep their inputs alone while it is trained.

    Raises:
        UserError: it has none, or they would count each batch twice.
    """
    if any(isinstance(module, _BatchNorm) for module in network.modules()):
        raise UserError(
            "gradient_checkpointing=true: this network normalises over the batch, and would count each one twice"
        )
    own = [module for module in network.modules() if hasattr(module, "enable_gradient_checkpointing")]  # of diffusers
    for module in own[:1]:
        module.enable_gradient_checkpointing()
    blocks = [] if own else list(_blocks(network))
    for block in blocks:
        block.forward = partial(_recomputed, block.forward)
    if not (own or blocks):
        raise UserError("gradient_checkpointing=true: this network has no blocks in a ModuleList to compute again")


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    for module in network.modules():
        if isinstance(module, nn.ModuleList):
            yield from (block for block in module if not isinstance(block, nn.ModuleList))


def _recomputed(forward: Callable, *inputs, **named):
    if not torch.is_grad_enabled():
        return forward(*inputs, **named)
    return checkpoint(forward, *inputs, use_reentrant=False, **named)
