"""One engine: a holder that asks for a lease, and an "EngineCore" child that fills memory up to the budget.

Runs as a process of its own, inside the cgroup, with the standard library alone. Every step is one line of JSON in a
file that all engines append to, with the machine's monotonic clock in seconds.
"""

import contextlib
import http.client
import json
import mmap
import os
import select
import signal
import sys
import time
from typing import Any

from benchmarks import unix_http
from benchmarks.procfs import resident
from benchmarks.vram_storm.script import MIB, Ending, Engine

AGENT_AWAY = (OSError, http.client.HTTPException)
RETRY_PAUSE = 0.05  # seconds
REACTION = 0.3  # seconds until a holder notices that its child died, or loses patience with one that will not end
SLACK = 2 * MIB  # the kernel's count of resident pages is exact to some pages a CPU
BLOCK = bytes(range(256)) * (MIB // 256)
LIFETIME = 150  # seconds; no engine of a script lives as long


class Life:
    """The holder. `run` never returns."""

    def __init__(self, plan: Engine, socket: str, log: str) -> None:
        self.plan = plan
        self.socket = socket
        self.forked = 0.0
        self.log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def run(self) -> None:
        plan = self.plan
        signal.signal(signal.SIGALRM, self._give_up)
        signal.setitimer(signal.ITIMER_REAL, plan.patience or LIFETIME)
        self._acquire()
        signal.setitimer(signal.ITIMER_REAL, LIFETIME)
        child, filled = self._fork()
        if plan.ends_in_ramp is not None:
            time.sleep(plan.ramp * plan.ends_in_ramp)
            self._end(child)
        os.read(filled, 1)  # ready, or b"" when the child died
        self.tell("activating")
        self._insist("active", "POST", f"/v1/leases/{plan.id}/active")
        if select.select([os.pidfd_open(child)], [], [], plan.hold)[0]:
            self.tell("dying", why="the child died")
            os._exit(1)
        self._end(child)

    def tell(self, event: str, **more: object) -> None:
        """Append one line. A single write, so lines of different processes do not mix."""
        line = {"t": time.monotonic(), "id": self.plan.id, "event": event, "pid": os.getpid(), **more}
        os.write(self.log, json.dumps(line).encode() + b"\n")

    def _acquire(self) -> None:
        """Returns with a lease, or not at all."""
        plan = self.plan
        body = {"request_id": plan.id, "model": plan.id, "bytes": plan.budget, "devices": ["host"]}
        delays = list(plan.hang_ups)
        self.tell("asked")
        while True:
            timeout = delays.pop(0) if delays else None
            try:
                status, answer = unix_http.ask(self.socket, "POST", "/v1/leases", body, timeout)
            except TimeoutError:
                self.tell("hung_up")
                continue
            except AGENT_AWAY:
                time.sleep(RETRY_PAUSE)
                self.tell("asked_again")
                continue
            break
        if status == 200:
            self.tell("granted")
        elif status == 409:
            self.tell("refused", error=answer["error"], free=answer["free"])
            os._exit(0)
        else:
            self.tell("odd", status=status, answer=answer)
            os._exit(1)

    def _fork(self) -> tuple[int, int]:
        """(the child's PID, the end of a pipe that says when it is ready)."""
        filled, tell = os.pipe()
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            os.close(filled)
            fill(self.plan, parent, tell)
        os.close(tell)
        self.forked = time.monotonic()
        self.tell("forked", child=child)
        return child, filled

    def _insist(self, event: str, method: str, url: str) -> None:
        """Ask until the agent is there and has answered."""
        while True:
            try:
                status, answer = unix_http.ask(self.socket, method, url)
            except AGENT_AWAY:
                time.sleep(RETRY_PAUSE)
                continue
            break
        if status in {200, 204}:
            self.tell(event)
        else:
            self.tell("odd", status=status, answer=answer, asked=f"{method} {event}")

    def _end(self, child: int) -> None:
        how = self.plan.ending
        if how is Ending.DRAIN:
            self.tell("draining")
            self._insist("drained", "DELETE", f"/v1/leases/{self.plan.id}")
            os.kill(child, signal.SIGTERM)
            if not select.select([os.pidfd_open(child)], [], [], REACTION)[0]:
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        elif how is Ending.KILL_HOLDER:
            time.sleep(max(0.0, self.forked + self.plan.spared - time.monotonic()))
            self.tell("dying")
            os.kill(os.getpid(), signal.SIGKILL)
        elif how is Ending.KILL_CHILD:
            self.tell("child_killed")
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            time.sleep(REACTION)
        else:
            os.kill(child, signal.SIGKILL if self.plan.stubborn else signal.SIGTERM)
        self.tell("dying")
        os._exit(0)

    def _give_up(self, *_: object) -> None:
        self.tell("died_waiting" if self.plan.patience else "stuck")
        os.kill(os.getpid(), signal.SIGKILL)


def fill(plan: Engine, parent: int, tell: int) -> None:
    """The child: take memory up to the peak, say when ready, then wait for a signal for ever."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if plan.stubborn else signal.SIG_DFL)
    # What both processes hold already is part of the budget; pages that they share count twice, as the agent counts.
    taken = (resident(parent) or 0) + (resident("self") or 0) + SLACK
    peak = max(0, int(plan.budget * plan.peak) - taken)
    if peak == 0:
        raise ValueError(f"{plan.id}: the budget is smaller than two Pythons")
    memory = mmap.mmap(-1, peak, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    ready = int(peak * plan.ready)
    touch(memory, 0, ready, plan.ramp)
    with contextlib.suppress(BrokenPipeError):  # the holder is dead already
        os.write(tell, b"r")
    touch(memory, ready, peak, plan.hold / 2)
    while True:
        signal.pause()


def touch(memory: mmap.mmap, start: int, end: int, lasts: float) -> None:
    """Write to every page from `start` to `end`, evenly over `lasts` seconds, or longer where the machine is slow."""
    began = time.monotonic()
    for at in range(start, end, MIB):
        length = min(MIB, end - at)
        memory[at : at + length] = BLOCK[:length]
        ahead = began + (at - start) / (end - start) * lasts - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)


def main(socket: str, log: str, plan: dict[str, Any]) -> None:
    plan |= {"ending": Ending(plan["ending"]), "hang_ups": tuple(plan["hang_ups"])}
    Life(Engine(**plan), socket, log).run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
