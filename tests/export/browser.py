"""The system's Chromium, driven by Playwright."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import pytest

PATH = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WHY = "Playwright is not installed" if not find_spec("playwright") else "there is no Chromium (apt-get install chromium)"
needs_chromium = pytest.mark.skipif(not (PATH and find_spec("playwright")), reason=f"THE PAGE IS NOT TESTED: {WHY}")


@contextlib.contextmanager
def chromium() -> Iterator[Callable]:
    """What launches headless browsers, each with command line options of its own; all are closed at the end."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, contextlib.ExitStack() as launched:

        def launch(*options: str):
            browser = playwright.chromium.launch(executable_path=PATH, args=["--no-sandbox", *options])
            launched.callback(browser.close)
            return browser

        yield launch
