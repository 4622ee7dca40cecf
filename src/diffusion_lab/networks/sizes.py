"""Which sizes of images a network takes."""

from diffusion_lab.errors import UserError
from diffusion_lab.sizes import Size, sides


def check_size(image_size: Size, factor: int, network: str) -> None:
    """Raise UserError where an image's sides cannot be made `factor` times smaller, as the network makes them."""
    if any(side % factor for side in sides(image_size)):
        said = image_size if isinstance(image_size, int) else f"[{','.join(map(str, image_size))}]"
        raise UserError(f"data.image_size={said} does not suit network {network}: take a multiple of {factor}")
