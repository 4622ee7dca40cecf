import pytest
import torch

from diffusion_lab.classifier import NoisyClassifier
from diffusion_lab.conditions import Classes
from diffusion_lab.errors import UserError
from diffusion_lab.metrics import classifier_features
from diffusion_lab.metrics.classifier_features import ClassifierFeatures
from diffusion_lab.networks.classifier import ClassifierNetwork
from diffusion_lab.process.levels import signal_power
from diffusion_lab.process.schedules import Cosine
from diffusion_lab.spaces.pixels import Symmetric


@pytest.fixture
def extractor(monkeypatch, tmp_path) -> ClassifierFeatures:
    torch.manual_seed(0)
    network = ClassifierNetwork(1, 8, 3, widths=(8,))
    torch.nn.init.normal_(network.out.weight)
    classifier = NoisyClassifier(network, Cosine(), signal_power, Symmetric(1, 8), Classes(3)).eval()

    class Opened:
        def model(self, kind):
            return classifier

    monkeypatch.setattr(classifier_features, "load_checkpoint", lambda file: Opened())
    (tmp_path / "last.ckpt").write_text("weights")
    return ClassifierFeatures(str(tmp_path / "last.ckpt"))


def test_the_last_layer_makes_the_logits_of_them(extractor):
    pixels = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    features = extractor(pixels)
    assert features.shape == (4, extractor.num_features)
    classifier, time = extractor.classifier, torch.zeros(4)
    logits = classifier(classifier.rates(time)[0] * classifier.space.encode(pixels), time)
    torch.testing.assert_close(extractor.last(features), logits)
    assert extractor.identity.startswith("classifier-")


def test_images_of_another_size_are_resized_and_of_other_channels_refused(extractor):
    flat = torch.full((1, 1, 16, 20), 99, dtype=torch.uint8)
    torch.testing.assert_close(extractor(flat), extractor(flat[:, :, :8, :8]))
    with pytest.raises(UserError, match="images of 1 channels, and these have 3"):
        extractor(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def test_it_wants_a_file():
    with pytest.raises(UserError, match=r"wants metrics.classifier=FILE"):
        ClassifierFeatures(None)
