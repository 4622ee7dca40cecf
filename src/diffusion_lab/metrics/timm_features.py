"""Features of any network that timm knows by name, DINOv2 and CLIP among them."""

from pathlib import Path

from torch import Tensor, nn

from diffusion_lab.errors import UserError
from diffusion_lab.metrics.features import digest, resized


class TimmFeatures(nn.Module):
    """What a network of timm gives before its last layer, in evaluation mode, of images resized as it was trained on.

    Args:
        name: timm's, such as vit_small_patch14_dinov2.lvd142m; `timm.list_pretrained()` has them.
        weights: a local file of plain weights, timm's or the authors', .pth or .safetensors; None: timm downloads it.
        size: side of the square in pixels that images are resized to; None: the network's own.
        last: give what the last layer gives, as for CLIP, whose last layer leads to where images and texts meet.

    Raises:
        UserError: timm is missing, has no such network, or its weights are not to be had.
    """

    def __init__(self, name: str, weights: str | None = None, size: int | None = None, last: bool = False):
        super().__init__()
        if ":" in name:  # timm would fetch whatever lies at such an address
            raise UserError(
                f"metrics.extractor.name={name} is an address: take one of timm's own networks, and weights=FILE"
            )
        if weights and not Path(weights).is_file():
            raise UserError(f"metrics.extractor.weights={weights} is not a file: leave it out, and timm downloads {name}")
        timm = _timm()
        if not timm.is_model(name):
            raise UserError(f"metrics.extractor.name={name} is none of timm's networks")
        settings = {"img_size": size} if size and name.startswith("vit_") else {}
        overlay = {"file": str(weights)} if weights else {}
        missing = f"metrics.extractor.weights={weights} holds no weights of {name}"
        if not weights:
            missing = f"the weights of {name} cannot be downloaded: give a file as metrics.extractor.weights=FILE"
        try:
            self.network = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **settings)
        except Exception as error:
            raise UserError(f"{missing} ({' '.join(str(error).split())[:200]})") from error
        if not last:  # only now: timm is not strict about the weights of a network without its last layer
            self.network.reset_classifier(0)
        known = timm.data.resolve_model_data_config(self.network)
        self.resolution = size or known["input_size"][-1]
        self.mode = "bicubic" if known["interpolation"] == "bicubic" else "bilinear"
        self.mean, self.std = known["mean"], known["std"]
        self.num_features = self.network.num_classes if last else self.network.num_features
        told = (digest(Path(weights)) if weights else "", f"{size}px" if size else "", "last" if last else "")
        self.identity = "-".join([name, *filter(None, told)])
        self.eval().requires_grad_(False)

    def forward(self, pixels: Tensor) -> Tensor:
        x = resized(pixels, self.resolution, self.mode).clamp(0, 255) / 255
        mean, std = x.new_tensor(self.mean), x.new_tensor(self.std)
        return self.network((x - mean.view(3, 1, 1)) / std.view(3, 1, 1))


def _timm():
    try:
        import timm
    except ImportError as error:
        raise UserError('this extractor is one of timm\'s: pip install "diffusion-lab[extractors]"') from error
    return timm
