"""How different two images look: callables of two batches (B, 3, H, W), values from -1 to 1, to a distance (B,).

They are no modules, and their copies are themselves: so they are neither trained nor averaged nor saved.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lab.errors import UserError

LARGER = 1e-5  # than this a vector has to be, to be scaled to length one


class Distance:
    """What the distances share: a frozen network, on the device of what it is shown."""

    def __init__(self, network: nn.Module):
        self.network = network.eval().requires_grad_(False)

    def __deepcopy__(self, memo: dict) -> "Distance":
        return self

    def features(self, images: Tensor) -> list[Tensor]:
        """Of images (B, 3, H, W) from -1 to 1, a map (B, C, h, w) a scale."""
        raise NotImplementedError

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        self.network.to(first.device)
        maps = zip(*(self.features(_colour(images)) for images in (first, second)), strict=True)
        return sum((_unit(a) - _unit(b)).square().sum(1).mean((1, 2)) for a, b in maps)


class EfficientNetDistance(Distance):
    """Between maps of EfficientNet-Lite0's features, each pixel's scaled to length one: LPIPS (Zhang et al. 2018,
    arXiv:1801.03924, eq. 1) without learned weights, on the network that KID looks through, which needs no download."""

    AFTER = (0, 2, 4, 10)  # blocks: maps a half, a quarter, an eighth and a sixteenth of the size

    def __init__(self):
        from diffusion_lab.metrics.features import EfficientNetLite0

        super().__init__(EfficientNetLite0().network)

    def features(self, images: Tensor) -> list[Tensor]:
        network, found = self.network, []
        x = network._swish(network._bn0(network._conv_stem(images)))
        for i, block in enumerate(network._blocks[: max(self.AFTER) + 1]):
            x = block(x)
            if i in self.AFTER:
                found.append(x)
        return found


class LPIPS(Distance):
    """LPIPS itself, by torchmetrics, whose backbone's weights torchvision downloads.

    Args:
        backbone: vgg, alex or squeeze.

    Raises:
        UserError: the weights cannot be had.
    """

    def __init__(self, backbone: str = "vgg"):
        from torchmetrics.functional.image.lpips import _NoTrainLpips

        try:
            super().__init__(_NoTrainLpips(net=backbone))
        except Exception as error:  # of a download, urllib raises all sorts
            raise UserError(
                f"task/perceptual=lpips: the weights of {backbone} cannot be had ({' '.join(str(error).split())}): take "
                "task/perceptual=features"
            ) from error

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        return self.network.to(first.device)(_colour(first), _colour(second)).flatten()


def none(first: Tensor, second: Tensor) -> Tensor:
    """No distance at all."""
    return torch.zeros(len(first), device=first.device)


def _colour(images: Tensor) -> Tensor:
    """Grey images as colour ones; of transparent ones the colours."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images[:, :3]


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=1, eps=LARGER)
