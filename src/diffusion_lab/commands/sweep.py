"""`sweep.py`: a W&B sweep file, run here through the multirun of the program that it names."""

import argparse
from pathlib import Path

from diffusion_lab.commands.console import exit_on_user_error, refuse_arguments
from diffusion_lab.errors import UserError
from diffusion_lab.experiments import sweeps

PROGRAMS = {"src/train.py": "train", "src/evaluate.py": "evaluate"}


def parsed(arguments: list[str]) -> tuple[str, list[str]]:
    """What `FILE [overrides] [--dry-run]` asks for: the file's program, "train" or "evaluate", and the arguments that make
    it a multirun with Hydra's sweeper `sweep_file`."""
    parser = argparse.ArgumentParser(
        prog="sweep.py",
        description="Run a W&B sweep file here, without an account. Run again, it goes on where it was.",
        epilog="Any override of the program may follow: epochs=3 seed=0,1 hydra/launcher=joblib hydra.launcher.n_jobs=2",
    )
    parser.error = refuse_arguments
    parser.add_argument("file", metavar="FILE", help="a W&B sweep file, such as sweeps/quick.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="in place of parameters, or beside them")
    parser.add_argument("--dry-run", action="store_true", help="list the jobs and their state, and run nothing")
    options = parser.parse_intermixed_args(arguments)
    return exit_on_user_error(command_line, options.file, options.overrides, options.dry_run)


def command_line(file: str, overrides: list[str], dry_run: bool) -> tuple[str, list[str]]:
    """The program of a sweep file and the arguments that make it run the sweep.

    Raises:
        UserError: the file is no sweep file, or names another program.
    """
    sweep = sweeps.load(file)
    if sweep["program"] not in PROGRAMS:
        raise UserError(f"{file}: program {sweep['program']} is not run: it must be {' or '.join(PROGRAMS)}")
    if "early_terminate" in sweep and sweep["program"] != "src/train.py":
        raise UserError(f"{file}: early_terminate stops trainings; {sweep['program']} does not train: remove it")
    program = PROGRAMS[sweep["program"]]
    parameters = sweep["parameters"]
    arguments = [
        "-m",
        "hydra/sweeper=sweep_file",
        f"hydra.sweeper.file={sweeps.hydra_text(str(Path(file).resolve()))}",
        f"hydra.sweeper.dry_run={str(dry_run).lower()}",
        "hydra.callbacks.report.files=true",
        f"name={sweeps.hydra_text(parameters.get('name', {}).get('value', Path(file).stem))}",
    ]
    if "metric" in sweep:
        arguments.append(f"objective={sweep['metric']['name']}")
    return program, [*arguments, *overrides]
