"""Optimizers beside torch's own: classes of parameters to an optimizer, named in conf/optimizer."""

import math

import torch
from torch import Tensor

A, B, C = 3.4445, -4.775, 2.0315  # of Newton-Schulz's steps, steepest at 0 (Jordan 2024, kellerjordan.github.io/posts/muon)


class Muon(torch.optim.AdamW):
    """Muon for every parameter of two dimensions or more, AdamW for all else (Jordan 2024; Liu et al. 2025,
    arXiv:2502.16982).

    These are not the weights of layers between layers alone: embeddings of classes and of places, the first layer and the
    last are among them, which Jordan's post and torch.optim.Muon leave to AdamW.

    A convolution's weight (out, in, h, w) is the matrix (out, in * h * w), which torch.optim.Muon does not take. A step has
    the root mean square that AdamW's have (eq. 4 there), so that one learning rate does for both.

    Args:
        params: of a network.
        lr: learning rate of both.
        weight_decay: of both, decoupled.
        momentum: of Muon, with Nesterov's look ahead, in [0, 1).
        betas: of AdamW.
    """

    def __init__(self, params, lr: float = 2e-3, weight_decay: float = 1e-2, momentum: float = 0.95, betas=(0.9, 0.95)):
        params = list(params)
        matrices = {"params": [each for each in params if each.ndim >= 2], "momentum": momentum}
        others = {"params": [each for each in params if each.ndim < 2], "momentum": None}
        groups = [group for group in (matrices, others) if group["params"]]
        # not fused: so gradients are unscaled, and steps that overflow left out, before float16's come here
        super().__init__(groups, lr=lr, weight_decay=weight_decay, betas=tuple(betas), foreach=True)

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["momentum"] is not None:
                for weight in group["params"]:
                    if weight.grad is not None:
                        self._muon_step(weight, **group)
                        weight.grad = None  # AdamW passes over it
        super().step()
        return loss

    def _muon_step(self, weight: Tensor, lr: float, weight_decay: float, momentum: float, **_) -> None:
        state = self.state[weight]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weight)
            state["step"] = torch.zeros(())  # which AdamW wants of what has a state
        average = state["momentum_buffer"].lerp_(weight.grad, 1 - momentum)
        step = orthogonal(weight.grad.lerp(average, momentum).flatten(1)).view(weight.shape)
        weight.mul_(1 - lr * weight_decay)
        weight.sub_(step, alpha=0.2 * lr * math.sqrt(max(len(weight), weight[0].numel())))


def orthogonal(matrix: Tensor) -> Tensor:
    """The matrix (m, n) with singular values nearer to 1 in place of its own: five steps of Newton and Schulz (Jordan 2024).

    A value of 0.0015 of the matrix's norm or more comes to lie between 0.67 and 1.21. A smaller one grows at most 485 times:
    0.0001 of the norm to 0.05. A norm that is not finite makes all NaN, so that a training that diverges is seen to.

    A step multiplies by a polynomial of the Gram matrix of the shorter side. That matrix is small, so its polynomials are
    multiplied first, and the matrix itself once.
    """
    if len(matrix) > matrix.shape[1]:
        return orthogonal(matrix.T).T
    matrix = matrix / matrix.norm().clamp(min=1e-7).fmod(math.inf)  # NaN of infinity, which would make a step of zero
    gram = matrix @ matrix.T
    factor = product = _polynomial(gram)
    for _ in range(4):
        gram = factor @ gram @ factor
        factor = _polynomial(gram)
        product = factor @ product
    return product @ matrix


def _polynomial(gram: Tensor) -> Tensor:
    """A + B gram + C gram^2."""
    result = torch.addmm(gram, gram, gram, beta=B, alpha=C)
    result.diagonal().add_(A)
    return result
