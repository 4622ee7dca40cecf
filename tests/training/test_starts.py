import pytest
import torch

from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.commands.checks import plain
from diffusion_lab.errors import UserError
from diffusion_lab.parts import build
from diffusion_lab.training.starts import start_from
from tests.commands.test_edit import written_checkpoint
from tests.conftest import composed


def model(*overrides: str):
    return build(plain(composed("train", "network.widths=[16,16]", *overrides))["model"], "model")


def test_a_network_takes_over_weights_and_keeps_its_own_space(tmp_path):
    checkpoint = load_checkpoint(written_checkpoint(tmp_path / "start.ckpt"))
    fresh = model("schedule=linear", "target=noise")  # what the weights are used for may be another
    start_from(fresh, checkpoint)
    for key, value in fresh.network.state_dict().items():
        assert torch.equal(value, checkpoint.weights[f"network.{key}"]), key
    assert fresh.space.mean.item() == 0 != checkpoint.weights["space.mean"].item()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["network.widths=[16,32]"], r"stem|down\.1\.0\S+ is \(.*\) there, \(.*\) here"),
        (["network.widths=[16,16]", "network.num_classes=0"], r"classes\.weight is not in this one"),
        (["network=dit"], r" and \d+ more\. Take the network"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, overrides, message):
    checkpoint = load_checkpoint(written_checkpoint(tmp_path / "start.ckpt"))
    other = build(plain(composed("train", *overrides))["model"], "model")
    with pytest.raises(UserError, match=message):
        start_from(other, checkpoint)
