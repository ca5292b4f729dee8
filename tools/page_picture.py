"""Takes the README's picture of the page: `.venv/bin/python -m tools.page_picture docs/images/page.png`.

Real gateway and real Chromium; the Hive behind it is the made-up one of the tests.
"""

import itertools
import shutil
import sys
import tempfile
import threading
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.gateway import showcase
from tests.gateway.site import Site

SECONDS = 100  # of load, for the sparklines


def load(site: Site, done: threading.Event) -> None:
    """Requests, so that there are tokens to count: now more, now fewer."""
    for number in itertools.count():
        if done.wait(0.25):
            return
        for model, most in (("qwen3-8b", 75), ("gemma-3-12b", 30)):
            site.chat(model, tokens=most + most * ((number * number) % 7) // 10)


def take(site: Site, to: Path, scheme: str, width: int, height: int) -> None:
    """One picture."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(
            color_scheme=scheme,  # type: ignore[arg-type]
            viewport={"width": width, "height": height},
            device_scale_factor=1.5,
        )
        page.goto(site.run.gateway_url)
        page.wait_for_timeout(SECONDS * 1000)
        page.screenshot(path=to, full_page=True)
        browser.close()


def main() -> None:
    to, scheme, width = Path(sys.argv[1]), *(sys.argv[2:] or ["light", "1440"])
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
            take(site, to, scheme, int(width), 900)
        finally:
            done.set()
            if loading.ident is not None:
                loading.join()
            site.end()
            shutil.rmtree(site.where.runtime, ignore_errors=True)


if __name__ == "__main__":
    main()
