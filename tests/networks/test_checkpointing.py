import copy

import pytest
import torch
from torch import nn

from diffusion_lab.errors import UserError
from diffusion_lab.networks.adm_unet import ADMUNet
from diffusion_lab.networks.checkpointing import checkpoint_blocks
from diffusion_lab.networks.dit import DiT
from diffusion_lab.networks.reference_unet import ReferenceUNet
from diffusion_lab.networks.unet import UNet
from tests.networks.test_unet import waken

NETWORKS = {
    "unet": lambda: UNet(1, 8, widths=(8, 8)),
    "dit": lambda: DiT(1, 8, width=16, depth=2, heads=2, patch=2),
    "dropout": lambda: ADMUNet(1, 8, width=8, multipliers=(1, 2), blocks=1, attention=(), head_channels=8, dropout=0.5),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_the_same_and_less_is_kept(name):
    torch.manual_seed(0)
    plain = NETWORKS[name]()
    waken(plain)
    saving = copy.deepcopy(plain)
    checkpoint_blocks(saving)
    copied = copy.deepcopy(saving)  # as averaging does
    kept, gradients = [], []
    for network in (plain, saving, copied):
        stored = []
        torch.manual_seed(1)
        with torch.autograd.graph.saved_tensors_hooks(lambda x, stored=stored: stored.append(x.numel()) or x, lambda x: x):
            loss = network(torch.randn(2, 1, 8, 8), torch.rand(2)).square().mean()
        loss.backward()
        kept.append(sum(stored))
        gradients.append([parameter.grad for parameter in network.parameters()])
    assert kept[1] == kept[2] < 0.7 * kept[0]
    for other in gradients[1:]:
        assert all(torch.equal(one, two) for one, two in zip(gradients[0], other, strict=True))
    assert plain.state_dict().keys() == saving.state_dict().keys()
    assert any(parameter.grad is not None for parameter in saving.parameters())


def test_what_cannot_be_computed_again_is_said():
    with pytest.raises(UserError, match="normalises over the batch"):
        checkpoint_blocks(ReferenceUNet(1, 8, widths=(8, 8)))
    with pytest.raises(UserError, match="no blocks"):
        checkpoint_blocks(nn.Linear(1, 1))
