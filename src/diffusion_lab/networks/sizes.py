"""Which sizes of images a network takes."""

from diffusion_lab.errors import UserError
from diffusion_lab.sizes import Size, sides


def check_size(image_size: Size, factor: int, network: str) -> None:
    """Raise UserError where sides, of images or latents, cannot be made `factor` times smaller, as the network does."""
    if any(side % factor for side in sides(image_size)):
        said = image_size if isinstance(image_size, int) else f"[{','.join(map(str, image_size))}]"
        raise UserError(f"network {network} takes a multiple of {factor} px and sees {said}: change data.image_size")
