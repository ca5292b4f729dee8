"""For all tests: a slow machine is no failure, programs that tests start take Ctrl-C, and what runs beside what."""

import signal
from pathlib import PurePath

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
# A shell's background jobs, and all that they start, would ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)

LOCAL = PurePath("tests/local")
PLACEMENT = LOCAL / "test_placement.py"  # on GPUs of a fake driver


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first."""
    items.sort(key=lambda item: LOCAL not in PurePath(item.nodeid).parents)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Of the workers that `-n` asks for, each takes a group at a time."""
    return ByFolder(config, log)


class ByFolder(LoadScopeScheduling):
    """Tests of one folder stay together, and all whose models take this machine's RAM: one Hive at a time."""

    def _split_scope(self, nodeid: str) -> str:
        path = PurePath(nodeid.partition("::")[0])
        if path == PLACEMENT:
            return str(path)
        return str(LOCAL if path.is_relative_to(LOCAL) else path.parent)
