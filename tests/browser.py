"""A real browser without a screen: Debian's `chromium`, driven by Playwright."""

import contextlib
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Skips the test where there is none."""
    binary = shutil.which("chromium")
    if binary is None:
        pytest.skip("no browser is here: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])  # CI is root
        yield browser
        browser.close()
