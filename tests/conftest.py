"""For all tests: a slow machine is no failure, and programs that tests start take Ctrl-C."""

import os
import signal
import time
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
# A shell's background jobs, and all that they start, would ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)

LOCAL = Path(__file__).with_name("local")
PLACEMENT = LOCAL / "test_placement.py"
UNTIL = float(os.environ.get("HIVE_TESTS_UNTIL", "inf"))  # seconds of the epoch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes last, and of that the cases that are many of one kind."""
    items.sort(key=lambda item: (starts_engines(item), LOCAL in item.path.parents, item.path == PLACEMENT))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What would begin after HIVE_TESTS_UNTIL is left out, and pytest says so."""
    if starts_engines(item) and time.time() > UNTIL:
        pytest.skip("this machine was too slow to come to it before HIVE_TESTS_UNTIL")


def starts_engines(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in ("serving", "cluster"))
