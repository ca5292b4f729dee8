"""The holder of a lease, as a replica is: asks the agent, starts its engine, says when it is ready. Standard library
alone. One command a line on stdin, as JSON; one answer a line on stdout. Ends with its stdin.

    python -m benchmarks.gpu_check.holder SOCKET ENGINE_STDIN ENGINE_STDOUT

The last two are file descriptors for the engine. They lead past this process, so the engine can be talked to, and can
see that the check is over, when its holder is dead.
"""

import json
import os
import subprocess
import sys
import time
from typing import Any

from benchmarks.unix_http import ask


class Holder:
    """Its public methods are the commands. Times are the machine's monotonic clock, in seconds."""

    def __init__(self, socket: str, engine_in: int, engine_out: int) -> None:
        self.socket = socket
        self.ends = (engine_in, engine_out)
        self.engine: subprocess.Popen[bytes] | None = None

    def acquire(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._ask("POST", "/v1/leases", request)

    def activate(self, lease: str) -> dict[str, Any]:
        return self._ask("POST", f"/v1/leases/{lease}/active")

    def drain(self, lease: str) -> dict[str, Any]:
        return self._ask("DELETE", f"/v1/leases/{lease}")

    def start(self, env: dict[str, str]) -> int:
        """The engine's PID."""
        program = [sys.executable, "-m", "benchmarks.gpu_check.engine"]
        self.engine = subprocess.Popen(program, env=env, stdin=self.ends[0], stdout=self.ends[1])
        for end in self.ends:
            os.close(end)  # what it writes must end when it does
        return self.engine.pid

    def reap(self) -> int:
        """Wait for the engine's end; its exit code."""
        assert self.engine is not None
        return self.engine.wait()

    def _ask(self, method: str, url: str, body: object = None) -> dict[str, Any]:
        asked = time.monotonic()
        status, answer = ask(self.socket, method, url, body)
        return {"status": status, "body": answer, "asked": asked, "answered": time.monotonic()}


def main() -> None:
    holder = Holder(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    commands = {name: getattr(holder, name) for name in ("acquire", "activate", "drain", "start", "reap")}
    for line in sys.stdin:
        name, arguments = json.loads(line)
        try:
            answer = commands[name](*arguments)
        except Exception as error:
            answer = {"failed": f"{type(error).__name__}: {error}"}
        os.write(1, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()
