"""Where conf/ is: in the checkout, or inside the installed package, where the wheel carries a copy."""

from pathlib import Path

PROJECT = Path(__file__).parents[2]
CHECKOUT = (PROJECT / "conf" / "train.yaml").is_file() and (PROJECT / "src" / "train.py").is_file()
CONF = PROJECT / "conf" if CHECKOUT else Path(__file__).parent / "conf"
