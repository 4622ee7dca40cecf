"""The packages that pretrained models want."""

from importlib.util import find_spec

from diffusion_lab.errors import UserError

PACKAGES = ("diffusers", "transformers", "accelerate")


def needed(*more: str) -> None:
    """Raise UserError where a package is not installed that pretrained models want, or one of `more`."""
    absent = [package for package in (*PACKAGES, *more) if not find_spec(package)]
    if absent:
        raise UserError(f"pretrained models need {' and '.join(absent)}: pip install 'diffusion-lab[pretrained]'")
