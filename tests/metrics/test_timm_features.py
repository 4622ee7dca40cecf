import pytest
import torch

from diffusion_lab.errors import UserError
from diffusion_lab.metrics.timm_features import TimmFeatures

NAME = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"


def test_what_is_no_name_of_timms_is_refused(tmp_path):
    for name in ("hf-hub:somebody/else", "local-dir:/tmp"):
        with pytest.raises(UserError, match="is an address"):
            TimmFeatures(name)
    with pytest.raises(UserError, match=r"none\.pth is not a file: leave it out, and timm downloads vit"):
        TimmFeatures("vit_tiny_patch16_224", str(tmp_path / "none.pth"))


def test_features_are_those_of_timm_by_hand(tmp_path):
    """Random weights from a local file: with timm's own transformation of a PIL image, the same features."""
    timm = pytest.importorskip("timm", reason="NOT TESTED: timm is missing")
    from PIL import Image

    torch.manual_seed(0)
    network = timm.create_model(NAME).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    extractor = TimmFeatures(NAME, str(tmp_path / "weights.pth"))
    pixels = torch.randint(0, 256, (2, 3, 224, 224), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    settings = timm.data.resolve_model_data_config(network)
    transform = timm.data.create_transform(**{**settings, "crop_pct": 1.0})
    seen = torch.stack([transform(Image.fromarray(each.permute(1, 2, 0).numpy())) for each in pixels])
    with torch.inference_mode():
        expected = network.forward_head(network.forward_features(seen), pre_logits=True)
        found = extractor(pixels)
    assert found.shape == (2, extractor.num_features)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)
    assert extractor.identity.startswith(f"{NAME}-")
    others = [TimmFeatures(NAME, str(tmp_path / "weights.pth"), **each) for each in ({"size": 96}, {"last": True})]
    assert len({each.identity for each in (extractor, *others)}) == 3  # what is kept of one is not taken for another's


@pytest.mark.parametrize(
    ("name", "last", "width"), [("dinov2", False, 384), pytest.param("clip", True, 512, marks=pytest.mark.slow)]
)
def test_dinov2_and_clip(name, last, width, tmp_path):
    """Small ones, with random weights, at their size."""
    timm = pytest.importorskip("timm", reason="NOT TESTED: timm is missing")
    names = {"dinov2": "vit_small_patch14_dinov2.lvd142m", "clip": "vit_base_patch32_clip_quickgelu_224.openai"}
    torch.save(timm.create_model(names[name]).state_dict(), tmp_path / "weights.pth")
    extractor = TimmFeatures(names[name], str(tmp_path / "weights.pth"), size=224, last=last)
    assert extractor(torch.zeros(1, 1, 28, 28, dtype=torch.uint8)).shape == (1, width)
    assert extractor.num_features == width


def test_other_weights_are_refused_in_a_line(tmp_path):
    pytest.importorskip("timm", reason="NOT TESTED: timm is missing")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="holds no weights of resnet18"):
        TimmFeatures("resnet18", str(tmp_path / "weights.pth"))
    with pytest.raises(UserError, match="frogs is none of timm's networks"):
        TimmFeatures("frogs")
