"""What entry points say on the terminal: figures, errors, the next command."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from diffusion_lab import ranks
from diffusion_lab.conf_path import CHECKOUT, PROJECT
from diffusion_lab.errors import failure_of_own_code, user_error_in
from diffusion_lab.figures import declared
from diffusion_lab.wording import one_line

UNKNOWN = "unrecognized arguments: "  # argparse's words
MOST_ABREAST = 6  # figures in a row


def exit_on_user_error(function: Callable, *arguments):
    """Call `function`; a UserError, or what fails in a user's own code, becomes one line on stderr and exit status 1."""
    try:
        return function(*arguments)
    except Exception as error:
        mistake = user_error_in(error) or failure_of_own_code(error)
        if mistake is None or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        who = "error" if ranks.is_first() else f"error in process {ranks.place().rank}"
        print(f"{who}: {one_line(mistake)}", file=sys.stderr)
        sys.exit(1)


def refuse_arguments(said: str) -> NoReturn:
    """What an argparse parser's `error` is here, in one line and with the exit status of a mistake. An option that is not
    known is a setting with dashes, more often than not."""
    if said.startswith(UNKNOWN):
        option = said.removeprefix(UNKNOWN).split()[0]
        name, _, value = option.lstrip("-").partition("=")
        said = f"{option} is no option: settings have no dashes, {name}={value or 'VALUE'}"
    print(f"error: {said}; --help shows what there is", file=sys.stderr)
    sys.exit(1)


def print_all_letters() -> None:
    """Escape what the terminal cannot show: that it knows few letters is no reason to fail."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def calls_progress(denoisers: Sequence, total: int | None, doing: str) -> Iterator[None]:
    """A progress bar of the network calls that `denoisers` make meanwhile, `total` or somewhat fewer, on a terminal.

    A total of None is not known beforehand.
    """
    with Progress(transient=True, disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task(doing, total=total)
        hooks = [denoiser.register_forward_hook(lambda *_: progress.advance(task)) for denoiser in denoisers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def print_figures(results: dict, title: str) -> None:
    """The figures of results as a small table, one a row where they are many, with what they depend on beneath."""
    title, caption = escape(title), escape(_dependence(results))
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    figures = declared(results).values()
    if len(figures) > MOST_ABREAST:
        table.show_header = False
        for figure in figures:
            table.add_row(escape(figure.title), figure.text_in(results), figure.better)
    else:
        for figure in figures:
            table.add_column(escape(figure.title), justify="right")
        table.add_row(*(figure.text_in(results) for figure in figures))
    Console().print(table)


def command(script: str, arguments: str) -> str:
    """A command line that runs `src/<script>.py` from the current folder with this Python, or what stands for it where the
    package is installed."""
    if not CHECKOUT:
        return f"diffusion-lab {script} {arguments}"
    path = _short(PROJECT / "src" / f"{script}.py")
    python = "python" if os.environ.get("VIRTUAL_ENV") == sys.prefix else _short(Path(sys.executable))
    if script == "train" and "trainer=ddp_cluster" in arguments.split():
        python = ranks.launcher(python)
    return f"{python} {path} {arguments}"


def _short(path: Path) -> str:
    """Relative to the current folder where that is below it, else as it is."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def short(path: Path) -> str:
    return _short(path)


def _dependence(results: dict) -> str:
    weights = f"{results['weights']} weights"
    if "samples" not in results:
        return f"of {results['real_images']} held-out images; {weights}"
    drawn = f"{results['samples']} generated against {results['real_images']} held-out images, "
    drawn += f"{results['network_calls']} network calls each"
    if "feature_extractor" not in results:
        return f"{drawn}; {weights}"
    return (
        f"{drawn}; features of {results['feature_extractor']} at {results['extractor_resolution']} px, "
        f"protocol {results['protocol']}; {weights}"
    )
