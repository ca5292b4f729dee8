"""Ports for what tests start: known before it listens, and taken by nothing else meanwhile."""

import os
import random

from hive.local.processes import port_owner

LOWEST, EACH = 20_000, 3_000  # below those that Linux gives away by itself, above those of Ray's workers


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, of those that only this worker of pytest takes from."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    lowest = LOWEST + worker * EACH
    found: list[int] = []
    for port in random.sample(range(lowest, lowest + EACH), EACH):
        if len(found) == count:
            break
        if port_owner(port) is None:
            found.append(port)
    return found
