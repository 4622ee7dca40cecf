"""`plot.py`: pictures of what choices mean, drawn without training anything."""

import argparse
import datetime
import re
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from diffusion_lab.commands.checks import check, plain
from diffusion_lab.commands.composition import prepare_hydra
from diffusion_lab.commands.console import exit_on_user_error, refuse_arguments, short
from diffusion_lab.commands.data import decode_source, open_source
from diffusion_lab.conf_path import CONF
from diffusion_lab.errors import UserError, user_error_in
from diffusion_lab.experiments.names import data_name
from diffusion_lab.parts import build

CONSTANT = ("single_level",)  # nothing dissolves under these, so they are drawn only where they are asked for


def main(arguments: list[str]) -> None:
    """Parse `schedules [overrides]`, draw, and print where the picture is."""
    parser = argparse.ArgumentParser(
        prog="plot.py",
        description="Draw what choices mean, without training anything: outputs/plot/<time>/schedules.png.",
        epilog="Examples: plot.py schedules; plot.py schedules data=flowers data.root=DIR; plot.py schedules "
        "schedule=flow schedule.shift=3, which adds that one to the others.",
    )
    parser.error = refuse_arguments
    about = "every schedule in conf/schedule: signal rate, noise rate, log-SNR, and a held-out image dissolving under it"
    parser.add_argument("picture", metavar="schedules", help=about)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as for train.py; data=NAME is whose image it is")
    options = parser.parse_args(arguments)
    print(short(exit_on_user_error(plot, options.picture, options.overrides)))


def plot(picture: str, overrides: list[str]) -> Path:
    """Draw `picture`, "schedules", of the experiment that `overrides` compose; returns the PNG, below the current folder.

    Raises:
        UserError: no such picture, or overrides that do not compose to an experiment.
    """
    if picture != "schedules":
        raise UserError(f"{picture} is not a picture that plot.py draws; there is schedules")
    try:
        return _plot_schedules(*compose_schedules(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        if user_error_in(error):
            raise
        raise UserError(str(error)) from error


def compose_schedules(overrides: list[str]) -> tuple[dict, dict[str, dict]]:
    """The config of `python src/train.py <overrides>`, and the configs of all schedules in conf/schedule, by name, but of
    those that are constant.

    Overrides of the schedule itself hold for none of these: they make one more, which is named after them.

    Raises:
        UserError: a number out of range, an unknown word, or a data.root that does not exist.
        HydraException, OmegaConfBaseException: the overrides do not compose.
    """
    prepare_hydra()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        names = GlobalHydra.instance().config_loader().get_group_options("schedule")
        every = [f"+schedule@schedules.{name}={name}" for name in names if name not in CONSTANT]
        cfg = compose("train", [*overrides, *every], return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)  # what ${hydra:...} refers to
    cfg = OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])
    check(cfg)
    config = plain(cfg)
    schedules = config.pop("schedules")
    if config["schedule"] not in schedules.values():
        own = [override for override in overrides if re.match(r"[+~]*schedule\b", override)]
        schedules[" ".join(own) or "experiment"] = config["schedule"]
    return config, schedules


def _plot_schedules(config: dict, schedules: dict[str, dict]) -> Path:
    from diffusion_lab.data.images import Split, batches_of
    from diffusion_lab.experiments.schedule_figure import schedule_figure

    decoded = decode_source(config["data"], open_source(config["data"]))
    space = build(config["space"], "space")
    space.measure(batch.pixels for batch in batches_of(Split(decoded, decoded.train), 4096))
    pixels = Split(decoded, decoded.held_out).__getitems__([0]).pixels[0]
    built = {name: build(schedule, f"schedule {name}") for name, schedule in schedules.items()}
    figure = schedule_figure(built, space, pixels, data_name(config["data"]))
    file = Path.cwd() / f"outputs/plot/{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}/schedules.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)
    return file
