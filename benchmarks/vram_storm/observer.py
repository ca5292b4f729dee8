"""Watches a storm from outside: the kernel's figures and the agent's, each in its own thread, 25 times a second."""

import http.client
import threading
import time
from collections.abc import Callable

from benchmarks import unix_http
from benchmarks.procfs import resident
from benchmarks.vram_storm.cgroup import MemoryCgroup
from benchmarks.vram_storm.records import Facts, Seen, SeenLease

PERIOD = 0.04  # seconds
TIMEOUT = 5.0


class Observer:
    """A context manager that looks for as long as it is open.

    Args:
        cgroup: where everything runs.
        socket: of the agent.
    """

    def __init__(self, cgroup: MemoryCgroup, socket: str) -> None:
        self.cgroup = cgroup
        self.socket = socket
        self.facts: list[Facts] = []
        self.seen: list[Seen] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(look,)) for look in (self._look_at_kernel, self._look_at_agent)
        ]

    def __enter__(self) -> "Observer":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, look: Callable[[], None]) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            look()
            self._stop.wait(max(0.0, began + PERIOD - time.monotonic()))

    def _look_at_kernel(self) -> None:
        now = time.monotonic()
        used = self.cgroup.used()
        processes = {pid: size for pid in self.cgroup.pids() if (size := resident(pid)) is not None}
        self.facts.append(Facts(now, used, processes))

    def _look_at_agent(self) -> None:
        asked = time.monotonic()
        try:
            status, state = unix_http.ask(self.socket, "GET", "/v1/state", timeout=TIMEOUT)
        except (OSError, http.client.HTTPException):
            return  # it was killed
        if status != 200 or not state["devices"]:
            return
        leases = tuple(SeenLease(one["id"], one["state"], one["bytes"], one["pid"]) for one in state["leases"])
        self.seen.append(Seen(asked, time.monotonic(), state["devices"][0]["foreign"], leases))
