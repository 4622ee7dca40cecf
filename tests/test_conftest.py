"""What the tests compose is what Hydra composes, though it does so only once for many of them."""

import pytest
from omegaconf import OmegaConf

from tests.conftest import TINY, _composed, whole_config

TYPED = {
    "train": [
        TINY,
        ("sampler.steps=3", "sampler=heun", "name=other", "network.widths=[8,8]"),  # a setting before its choice
        ("experiment=reference", "target=image", "data.root=x", "+more=1", "hydra.run.dir=here", "~label_dropout"),
        ("loss=mae", "loss.reduction=none", "seed=3", "epochs=1", "epochs=2"),
    ],
    "edit": [("edit=inpaint", "edit.box=[1,2,3,4]", "checkpoint=x", "guidance.scale=2")],
    "sample": [("guidance.scale=[1,2]", "checkpoint=a b", "label=all")],
}


@pytest.mark.parametrize(("name", "overrides"), [(name, each) for name, all_ in TYPED.items() for each in all_])
def test_what_is_composed_is_what_hydra_composes(name, overrides):
    ours, theirs = whole_config(name, *overrides), _composed(name, *overrides)
    ours, theirs = (OmegaConf.to_container(cfg, resolve=False) for cfg in (ours, theirs))  # times of day are not alike
    for config in (ours, theirs):
        del config["hydra"]["overrides"]  # whose order is ours
    assert ours == theirs
    assert ours["hydra"]["job"]["override_dirname"]


def test_a_setting_that_is_not_there_is_hydras_mistake():
    with pytest.raises(Exception, match="Could not override 'epoch'"):
        whole_config("train", "epoch=3")
