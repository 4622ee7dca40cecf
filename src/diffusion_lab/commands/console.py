"""What entry points say on the terminal: figures, errors, the next command."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from diffusion_lab.errors import user_error_in


def exit_on_user_error(function: Callable, *arguments):
    """Call `function`; a UserError becomes one line on stderr and exit status 1."""
    try:
        return function(*arguments)
    except Exception as error:
        mistake = user_error_in(error)
        if mistake is None:
            raise
        print(f"error: {' '.join(str(mistake).split())}", file=sys.stderr)
        sys.exit(1)


@contextlib.contextmanager
def calls_progress(denoiser, total: int | None, doing: str) -> Iterator[None]:
    """A progress bar of the network calls that `denoiser` makes meanwhile, `total` or somewhat fewer, on a terminal.

    A total of None is not known beforehand.
    """
    with Progress(transient=True, disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task(doing, total=total)
        hook = denoiser.register_forward_hook(lambda *_: progress.advance(task))
        try:
            yield
        finally:
            hook.remove()


def print_figures(results: dict, title: str) -> None:
    """The figures of one evaluation as a small table, with what they depend on beneath."""
    table = Table(title=title, caption=_dependence(results), title_justify="left", caption_justify="left")
    for column in ("KID", "FID", "noise_loss", "image_loss"):
        table.add_column(column, justify="right")
    bits = "bits_per_dimension" in results
    if bits:
        table.add_column("bits/dim", justify="right")
    kid = f"{results['kid']:.5f} ± {results['kid_std']:.5f}"
    row = [kid, f"{results['fid']:.2f}", f"{results['noise_loss']:.4f}", f"{results['image_loss']:.4f}"]
    if bits:
        row.append(f"{results['bits_per_dimension']:.3f} ± {results['bits_per_dimension_error']:.3f}")
    if "label_accuracy" in results:
        table.add_column("read as asked (real images)", justify="right")
        row.append(f"{results['label_accuracy']:.1%} ({results['real_label_accuracy']:.1%})")
    table.add_row(*row)
    Console().print(table)


def print_accuracy(results: dict, title: str) -> None:
    """The figures of a classifier as a small table, with what they depend on beneath."""
    times = list(results["accuracy_by_time"].items())[::2]
    times_of = "each at a time of its own, or all at one"
    said = f"of {results['real_images']} held-out images, {times_of}; {results['weights']} weights"
    table = Table(title=title, caption=said, title_justify="left", caption_justify="left")
    for column in ("cross_entropy", "accuracy", *(f"at {time}" for time, _ in times)):
        table.add_column(column, justify="right")
    shares = (results["accuracy"], *dict(times).values())
    table.add_row(f"{results['cross_entropy']:.4f}", *(f"{share:.3f}" for share in shares))
    Console().print(table)


def command(script: str, arguments: str) -> str:
    """A command line that runs `src/<script>.py` from the current folder with this Python."""
    path = _short(Path(__file__).parents[2] / f"{script}.py")
    python = "python" if os.environ.get("VIRTUAL_ENV") == sys.prefix else _short(Path(sys.executable))
    return f"{python} {path} {arguments}"


def _short(path: Path) -> str:
    """Relative to the current folder where that is below it, else as it is."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def short(path: Path) -> str:
    return _short(path)


def _dependence(results: dict) -> str:
    return (
        f"{results['samples']} generated against {results['real_images']} held-out images, "
        f"{results['network_calls']} network calls each; features of {results['feature_extractor']} at "
        f"{results['extractor_resolution']} px, protocol {results['protocol']}; {results['weights']} weights"
    )
