"""`torture.py`: does the program stand what goes wrong in the world, on this machine?"""

import argparse
import sys

from diffusion_lab.commands.composition import prepare_hydra
from diffusion_lab.commands.console import exit_on_user_error, refuse_arguments
from diffusion_lab.errors import UserError


def main(arguments: list[str]) -> None:
    """Parse `minutes=10 seed=0` and torture; the exit status is 1 where something fell short."""
    parser = argparse.ArgumentParser(prog="torture.py", description="Kill it, damage its files, feed it nonsense.")
    parser.error = refuse_arguments
    parser.add_argument("settings", nargs="*", metavar="minutes=10 seed=0", help="how long, and which random inputs")
    minutes, seed = exit_on_user_error(_parsed, parser.parse_args(arguments).settings)
    prepare_hydra()
    import logging

    from diffusion_lab.torture.run import torture

    logging.disable(logging.CRITICAL)
    sys.exit(0 if torture(minutes, seed) else 1)


def _parsed(settings: list[str]) -> tuple[float, int]:
    given = {"minutes": "10", "seed": "0"} | dict(setting.partition("=")[::2] for setting in settings)
    try:
        minutes, seed = float(given.pop("minutes")), int(given.pop("seed"))
    except ValueError:
        minutes = -1
    if given or not 0 < minutes < 10_000:
        raise UserError("give minutes=NUMBER and seed=NUMBER, and nothing else")
    return minutes, seed
