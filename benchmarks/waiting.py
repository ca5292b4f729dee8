"""Waiting for what a benchmark started, with the standard library alone."""

import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

DEADLINE = 60.0


def for_http(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = DEADLINE) -> None:
    """Until the URL answers 200.

    Raises:
        RuntimeError: the process ended, or the time is up; with the end of its log.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > end:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
                raise RuntimeError(f"{url} does not answer ({error}). Last words:\n{tail}") from error
        time.sleep(0.05)
