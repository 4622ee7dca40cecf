"""Which sizes of images a network takes."""

from diffusion_lab.errors import UserError


def check_size(image_size: int, factor: int, network: str) -> None:
    """Raise UserError where an image's sides cannot be made `factor` times smaller, as the network makes them."""
    if image_size % factor:
        raise UserError(f"data.image_size={image_size} does not suit network {network}: take a multiple of {factor}")
