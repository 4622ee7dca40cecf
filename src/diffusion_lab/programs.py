"""The programs: `src/*.py` and `diffusion-lab` share them.

Each imports its work when it is run: a mistake in a config is then answered before torch is there.
"""

import functools
import sys
from collections.abc import Callable

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from diffusion_lab.commands.composition import (
    check_choices,
    own_places,
    prepare_hydra,
    say_user_errors_in_a_line,
    words_of,
)
from diffusion_lab.commands.console import exit_on_user_error, print_all_letters
from diffusion_lab.commands.stopping import stoppable
from diffusion_lab.conf_path import CONF, own_folders

GOES_ON = "type the same command again: what is finished is kept, and a training goes on from its last checkpoint"


def program(name: str, stopped: str = "nothing was kept") -> Callable:
    """A decorator: the function is run with the config `name`, as the command line asks for it.

    Args:
        stopped: what to say when ctrl-C or SIGTERM has ended it.
    """

    def wrap(work: Callable[[DictConfig], float | None]) -> Callable[[], None]:
        @functools.wraps(work)
        def job(cfg: DictConfig) -> float | None:
            return exit_on_user_error(work, cfg)

        def main() -> None:
            print_all_letters()
            exit_on_user_error(check_choices, words_of(sys.argv[1:]))
            exit_on_user_error(own_folders)
            sys.path += own_places(sys.argv[1:])
            prepare_hydra()
            say_user_errors_in_a_line()
            with stoppable(stopped):
                hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(job)()

        return main

    return wrap


def _folder() -> str:
    return HydraConfig.get().runtime.output_dir


def _is_multirun() -> bool:
    return HydraConfig.get().mode == RunMode.MULTIRUN


@program("train", GOES_ON)
def train(cfg: DictConfig) -> float:
    from diffusion_lab.commands.train import train as work

    return work(cfg, _folder(), _is_multirun())


@program("evaluate", GOES_ON)
def evaluate(cfg: DictConfig) -> float:
    from diffusion_lab.commands.evaluate import evaluate_checkpoint

    return evaluate_checkpoint(cfg, _folder(), _is_multirun())


@program("sample")
def sample(cfg: DictConfig) -> None:
    from diffusion_lab.commands.sample import sample_checkpoint

    sample_checkpoint(cfg, _folder())


@program("edit")
def edit(cfg: DictConfig) -> None:
    from diffusion_lab.commands.edit import edit_images

    edit_images(cfg, _folder())


@program("export", "a file that was written is whole")
def export(cfg: DictConfig) -> None:
    from diffusion_lab.commands.export import export_checkpoint

    export_checkpoint(cfg, _folder())


@program("judge")
def judge(cfg: DictConfig) -> None:
    from diffusion_lab.commands.judge import judge as work

    work(cfg, _folder())


@program("dashboard")
def dashboard(cfg: DictConfig) -> None:
    from diffusion_lab.commands.dashboard import make_dashboard

    make_dashboard(cfg, _folder())


@program("benchmark")
def benchmark(cfg: DictConfig) -> None:
    from diffusion_lab.benchmarks.run import benchmark as work

    work(cfg, _folder())


def plain_program(stopped: str) -> Callable:
    """A decorator: the function is run with the words of the command line.

    Args:
        stopped: what to say when ctrl-C or SIGTERM has ended it.
    """

    def wrap(work: Callable[[list[str]], None]) -> Callable[[], None]:
        def main() -> None:
            print_all_letters()
            with stoppable(stopped):
                work(sys.argv[1:])

        return main

    return wrap


@plain_program("type the same command again")
def report(words: list[str]) -> None:
    from diffusion_lab.commands.report import main

    main(words)


@plain_program("type the same command again")
def plot(words: list[str]) -> None:
    from diffusion_lab.commands.plot import main

    main(words)


@plain_program("what was found so far is above")
def torture(words: list[str]) -> None:
    from diffusion_lab.torture.command import main

    main(words)


@plain_program(GOES_ON)
def sweep(words: list[str]) -> None:
    from diffusion_lab.commands.sweep import parsed

    program, arguments = parsed(words)
    sys.argv = [program, *arguments]
    {"train": train, "evaluate": evaluate}[program]()
