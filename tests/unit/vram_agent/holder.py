"""A process that the tests use up: it asks the agent for leases, has children, holds memory, takes names and dies.

One command a line on stdin, as JSON; one answer a line on stdout. Standard library alone, so that it starts fast.
"""

import ctypes
import http.client
import json
import os
import signal
import socket
import sys
from typing import Any

PR_SET_NAME = 15  # prctl(2)
held: list[bytes] = []


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def ask(path: str, method: str, url: str, body: object = None) -> tuple[int, Any]:
    """One request to the agent: the status, and the answer's JSON."""
    connection = UnixConnection(path)
    connection.request(method, url, None if body is None else json.dumps(body))
    response = connection.getresponse()
    text = response.read()
    connection.close()
    return response.status, json.loads(text) if text else None


def hold(size: int) -> None:
    """Take memory and write to it: pages that were never touched are not resident."""
    held.append(b"x" * size)


def rename(name: str) -> None:
    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode("latin-1"))


def fork(size: int = 0, generations: int = 1, stubborn: bool = False) -> list[int]:
    """PIDs of a child, its child and so on, once the last one holds `size` bytes. They wait for a signal for ever."""
    ready, tell = os.pipe()
    child = os.fork()
    if child:
        os.close(tell)
        with os.fdopen(ready) as answer:
            return [child, *json.loads(answer.readline())]
    os.close(ready)
    if stubborn:
        signal.signal(signal.SIGTERM, lambda *_: answer_with("asked to end"))
    if generations == 1:
        hold(size)
    os.write(tell, json.dumps(fork(size, generations - 1) if generations > 1 else []).encode() + b"\n")
    os.close(tell)
    while True:
        signal.pause()


def leave_a_zombie() -> int:
    """PID of a child that has ended and is not waited for."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    return child


def answer_with(answer: object) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")


COMMANDS = {f.__name__: f for f in (ask, hold, rename, fork, leave_a_zombie)}

if __name__ == "__main__":
    for line in sys.stdin:
        command, arguments = json.loads(line)
        answer_with(COMMANDS[command](*arguments))
