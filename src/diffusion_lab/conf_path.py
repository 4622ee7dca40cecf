"""Where conf/ is: in the checkout, or inside the installed package, where the wheel carries a copy; and where one's own."""

import os
from pathlib import Path

from diffusion_lab.errors import UserError

PROJECT = Path(__file__).parents[2]
CHECKOUT = (PROJECT / "conf" / "train.yaml").is_file() and (PROJECT / "src" / "train.py").is_file()
CONF = PROJECT / "conf" if CHECKOUT else Path(__file__).parent / "conf"


def own_folders() -> list[Path]:
    """Those that DIFFUSION_LAB_CONF names.

    Raises:
        UserError: one is no folder.
    """
    folders = [Path(word).expanduser() for word in os.environ.get("DIFFUSION_LAB_CONF", "").split(os.pathsep) if word]
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"DIFFUSION_LAB_CONF={folder} is not a folder: it wants one laid out like conf/, as mine/conf")
    return [folder.resolve() for folder in folders]
