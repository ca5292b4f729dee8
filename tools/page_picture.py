"""Takes the README's picture of the page: `.venv/bin/python -m tools.page_picture docs/images/page.png`.

Real gateway and real Chromium; the Hive behind it is the made-up one of the tests.
"""

import itertools
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Literal

import typer

from tests.browser import chromium
from tests.gateway import showcase
from tests.gateway.site import Site

Scheme = Literal["light", "dark"]
SECONDS = 100  # of load, for the sparklines


def load(site: Site, done: threading.Event) -> None:
    """Requests, so that there are tokens to count: now more, now fewer."""
    for number in itertools.count():
        if done.wait(0.25):
            return
        for model, most in (("qwen3-8b", 75), ("gemma-3-12b", 30)):
            site.chat(model, tokens=most + most * ((number * number) % 7) // 10)


def take(site: Site, to: Path, scheme: Scheme, width: int) -> None:
    """One picture of the whole page."""
    with chromium() as browser:
        page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
        page.goto(site.run.gateway_url)
        page.wait_for_timeout(SECONDS * 1000)
        page.screenshot(path=to, full_page=True)


def main(to: Path, scheme: Scheme = "light", width: int = 1440) -> None:
    done = threading.Event()
    loading = threading.Thread(target=lambda: load(site, done))
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder), showcase.VALUES, states=showcase.states())
        site.dashboard.applications = showcase.APPLICATIONS
        try:
            site.start()
            for model in ("qwen3-8b", "gemma-3-12b", "qwen3-embedding"):
                site.add(model)
            loading.start()
            take(site, to, scheme, width)
        finally:
            done.set()
            if loading.ident is not None:
                loading.join()
            site.end()
            shutil.rmtree(site.where.runtime, ignore_errors=True)


if __name__ == "__main__":
    typer.run(main)
