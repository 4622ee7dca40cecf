"""Any U-Net that diffusers' UNet2DModel can be set to, behind the interface of the other networks."""

from torch import Tensor, nn

from diffusion_lab.errors import UserError
from diffusion_lab.networks.embeddings import class_rows
from diffusion_lab.networks.sizes import check_size
from diffusion_lab.networks.unet import zeroed
from diffusion_lab.sizes import Size, sides


class DiffusersUNet(nn.Module):
    """UNet2DModel, its last layer zero at the start; needs the package diffusers.

    Args:
        channels: of the images.
        image_size: side of the square in pixels, or (height, width), divisible by 2 ** (len(block_out_channels) - 1).
        num_classes: of the labels; 0 for a network without labels.
        outputs: images put out for each one put in; 2 with a learned variance.
        settings: UNet2DModel's others, as in a model's config.json.

    Raises:
        UserError: diffusers is missing, or refuses the settings; or image_size does not suit them.
    """

    def __init__(self, channels: int, image_size: Size, num_classes: int = 0, outputs: int = 1, **settings):
        super().__init__()
        try:
            from diffusers import UNet2DModel
        except ImportError as error:
            raise UserError("network=diffusers needs the package diffusers: pip install diffusers") from error
        self.num_classes = num_classes
        rows = num_classes + 1 if num_classes else None  # the last: no label
        image_size = image_size if isinstance(image_size, int) else sides(image_size)  # its config.json takes no others
        shape = {"in_channels": channels, "out_channels": channels * outputs, "sample_size": image_size}
        try:
            self.unet = UNet2DModel(**shape, num_class_embeds=rows, **settings)
        except (TypeError, ValueError) as error:
            raise UserError(f"network=diffusers, in UNet2DModel's settings: {error}") from error
        factor = 2 ** (len(self.unet.config.block_out_channels) - 1)
        check_size(image_size, factor, "diffusers")
        zeroed(self.unet.conv_out)

    def forward(self, noisy: Tensor, level: Tensor, label: Tensor | None = None) -> Tensor:
        """noisy (B, C, H, W), level (B,) in [0, 1] or near it, label (B,) int64 with -1 for none, or None.

        The level is shown as step 1000 * level. Returns (B, C * outputs, H, W), the first image first.
        """
        rows = class_rows(label, level, none=self.num_classes) if self.num_classes else None
        return self.unet(noisy, 1000 * level, rows, return_dict=False)[0]
