"""The packages that pretrained models want: whether they are here, and made to read files quietly."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from importlib.util import find_spec

from diffusion_lab.errors import UserError

PACKAGES = ("diffusers", "transformers", "accelerate")


def needed(*more: str) -> None:
    """Raise UserError where a package is not installed that pretrained models want, or one of `more`."""
    absent = [package for package in (*PACKAGES, *more) if not find_spec(package)]
    if absent:
        raise UserError(f"pretrained models need {' and '.join(absent)}: pip install 'diffusion-lab[pretrained]'")


@contextlib.contextmanager
def reading() -> Iterator[list[str]]:
    """Let diffusers and transformers read files without a word; the list is what they say of weights that they made up."""
    import diffusers
    import transformers

    said = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = " ".join(record.getMessage().split())
            if "newly initialized" in text:
                said.append(text)

    libraries = [diffusers.utils.logging, transformers.utils.logging]
    handler, levels = Listening(logging.WARNING), [library.get_verbosity() for library in libraries]
    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    kept = [(logger.handlers[:], logger.propagate) for logger in loggers]
    for library, logger in zip(libraries, loggers, strict=True):
        library.set_verbosity_warning()
        library.disable_progress_bar()
        logger.handlers, logger.propagate = [handler], False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield said
    finally:
        for library, logger, level, (handlers, propagate) in zip(libraries, loggers, levels, kept, strict=True):
            library.set_verbosity(level)
            logger.handlers, logger.propagate = handlers, propagate
