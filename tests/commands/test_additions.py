import pytest

from diffusion_lab.commands.additions import check_additions
from diffusion_lab.errors import UserError
from tests.conftest import composed


@pytest.mark.parametrize(
    ("program", "added", "message"),
    [
        ("train", "+checkpoint=x.ckpt", r"\+checkpoint=x.ckpt: train has no such key; init_from=FILE .* resume_from=FILE"),
        ("train", "++checkpoint=x.ckpt", "train has no such key"),
        ("train", "+epoch=3", "train has no such key; is it epochs?"),
        ("train", "+data.rooot=x", "train has no such key; --help"),
        ("train", "+choices.colour=red", "no such key"),
        ("sample", "+steps=3", "sample has no such key"),
    ],
)
def test_what_nothing_reads_is_refused(program, added, message):
    with pytest.raises(UserError, match=message):
        check_additions(composed(program, added))


@pytest.mark.parametrize(
    "added",
    ["+network.more=1", "+metrics.figures.mine._target_=my.metric", "++epochs=3", "++data.flip=true"],
)
def test_what_is_read_or_asked_elsewhere_is_not(added):
    check_additions(composed("train", added))
