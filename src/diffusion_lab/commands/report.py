"""`report.py`: tables and pictures of all runs under a folder, from what the runs left there, or leave there now."""

import argparse
import time
from itertools import count
from pathlib import Path

from diffusion_lab.commands.console import exit_on_user_error, refuse_arguments, short
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.runs import Run
from diffusion_lab.figures import FIGURES, declared

EVERY_S = 30
LABELS = {figure.label.lower(): key for key, figure in FIGURES.items()}  # which may be typed too, as tables have them


def main(arguments: list[str]) -> None:
    """Parse `DIR [objective=kid] [--watch [SECONDS]]` and write the report."""
    parser = argparse.ArgumentParser(prog="report.py", description="Put all runs under a folder side by side.")
    parser.error = refuse_arguments
    parser.add_argument("folder", metavar="DIR", help="a folder with runs in it, such as outputs/quick")
    parser.add_argument(
        "overrides", nargs="*", metavar="objective=kid", help=f"rank by one of {', '.join(FIGURES)}, or a figure of yours"
    )
    watched = f"keep report.html up to date while runs go on; look every so many seconds ({EVERY_S} if none are given)"
    parser.add_argument("--watch", metavar="SECONDS", nargs="?", const=EVERY_S, type=int, help=watched)
    options = parser.parse_args(arguments)
    if options.watch is None:
        exit_on_user_error(report_folder, options.folder, options.overrides)
    else:
        exit_on_user_error(watch, options.folder, options.overrides, options.watch)


def report_folder(folder: str, overrides: list[str]) -> None:
    """Print the report on all runs below `folder`, and write report.md, .csv, .tex and .html into it.

    Raises:
        UserError: no such folder, no runs in it, or an unknown override.
    """
    objective = _objective(overrides)
    if not Path(folder).is_dir():
        raise UserError(f"{folder} is not a folder; runs are in outputs/<name>")

    from diffusion_lab.reports.collect import find_runs

    runs = find_runs(Path(folder))
    known = _known(runs)
    objective = _key(objective, known)
    if objective not in known and objective not in FIGURES:
        raise UserError(f"objective={objective} must be one of {', '.join(sorted(known) or FIGURES)}")
    if not runs:
        raise UserError(f"{folder} holds no runs (looked for results.json and config.yaml, also in subfolders)")
    if all("~" in run.folder.name for run in runs):
        raise UserError(f"{folder} holds only runs that were set aside, as {runs[0].folder.name}: copy one without its ~")
    write(runs, Path(folder), objective)


def watch(folder: str, overrides: list[str], every: int, rounds: int | None = None) -> None:
    """Keep report.html in `folder` up to date: a page that renews itself in a browser, of curves, images and the state of
    each job.

    Args:
        every: seconds from one look to the next; where nothing has changed, nothing is written.
        rounds: how often to look; None: until ctrl-C.

    Raises:
        UserError: no such folder, or none any more; or an unknown override.
    """
    objective, place = _objective(overrides), Path(folder)
    if not place.is_dir():
        raise UserError(f"{folder} is not a folder; runs are in outputs/<name>")
    if every < 1:
        raise UserError(f"--watch {every} must be a second or more")
    from diffusion_lab.reports.collect import find_runs
    from diffusion_lab.reports.live import live_report, state, traces
    from diffusion_lab.reports.render import write_page

    def renew(refresh: int | None) -> str:
        runs = find_runs(place)
        finding = live_report(runs, _key(objective, _known(runs)), title=f"Runs of {place.resolve().name}")
        page = write_page(finding, place, refresh)
        return f"{short(page.resolve())}: {finding.sections[0].sentences[0]}"

    seen, said = None, None
    try:
        for look in count():
            if not place.is_dir():
                raise UserError(f"{folder} is gone")
            now = traces(place), [state(run) for run in find_runs(place)]
            if now != seen:
                seen, new = now, renew(every)
                if new != said:
                    print(new, flush=True)
                said = new
            if rounds is not None and look + 1 >= rounds:
                break
            time.sleep(every)
    finally:
        if place.is_dir():
            renew(None)


def write(runs: list[Run], folder: Path, objective: str) -> None:
    """Print the report on `runs` and write it into `folder`."""
    from diffusion_lab.reports.render import print_report, write_report
    from diffusion_lab.reports.report import report

    finding = report(runs, objective, title=f"Runs of {folder.resolve().name}")
    print_report(finding)
    print("\nwritten: " + ", ".join(short(path.resolve()) for path in write_report(finding, folder)))


def _objective(overrides: list[str]) -> str:
    given = dict(override.partition("=")[::2] for override in overrides)
    unknown = [key for key in given if key != "objective"]
    if unknown:
        raise UserError(f"{unknown[0]} is not an option of report.py; there is objective={'|'.join(FIGURES)}")
    return given.get("objective", "kid")


def _known(runs: list[Run]) -> set[str]:
    """The keys of all figures that some runs have."""
    return {key for run in runs for key in declared(run.results())}


def _key(objective: str, known: set[str]) -> str:
    """The key of the figure that is meant, which a table calls by its label."""
    return objective if objective in known else LABELS.get(objective.lower(), objective)
