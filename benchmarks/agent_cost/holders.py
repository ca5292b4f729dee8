"""Processes that hold leases, started with the standard library alone. Prints one line of JSON for each.

    python -m benchmarks.agent_cost.holders stay SOCKET LEASES    # each holds its lease until its stdin closes
    python -m benchmarks.agent_cost.holders pass SOCKET LEASES    # one after the other: ask, get ready, give back, exit

LEASES is JSON: [[id, device, bytes], ...].
"""

import json
import os
import signal
import sys
import time

from benchmarks.unix_http import ask

CHILDREN = 3
Wanted = list[tuple[str, str, int]]


def stay(socket: str, wanted: Wanted) -> None:
    """A process with children for each lease. They end with this one, which ends with its stdin."""
    os.setpgid(0, 0)
    for lease_id, device, size in wanted:
        ready, tell = os.pipe()
        if os.fork() == 0:
            children = [_sleeper(tell) for _ in range(CHILDREN)]
            _get(socket, lease_id, device, size)
            _insist(socket, "POST", f"/v1/leases/{lease_id}/active")
            os.write(tell, json.dumps({"device": device, "engine": children[0]}).encode() + b"\n")
            _sleep()
        os.close(tell)
        with os.fdopen(ready) as answer:
            line = answer.readline()
        if not line:
            os.killpg(0, signal.SIGKILL)
        print(line, end="", flush=True)
    sys.stdin.read()
    os.killpg(0, signal.SIGKILL)


def pass_by(socket: str, wanted: Wanted) -> None:
    """Seconds of each step, as the holder sees them."""
    for lease_id, device, size in wanted:
        if os.fork() == 0:
            began = time.perf_counter()
            _get(socket, lease_id, device, size)
            granted = time.perf_counter()
            _insist(socket, "POST", f"/v1/leases/{lease_id}/active")
            active = time.perf_counter()
            _insist(socket, "DELETE", f"/v1/leases/{lease_id}")
            drained = time.perf_counter()
            steps = {"grant": granted - began, "activate": active - granted, "drain": drained - active}
            print(json.dumps(steps), flush=True)
            os._exit(0)
        if os.wait()[1]:
            sys.exit(f"no lease {lease_id}")


def _get(socket: str, lease_id: str, device: str, size: int) -> None:
    body = {"request_id": lease_id, "model": lease_id, "bytes": size, "devices": [device]}
    _insist(socket, "POST", "/v1/leases", body)


def _insist(socket: str, method: str, url: str, body: object = None) -> None:
    status, answer = ask(socket, method, url, body)
    if status not in {200, 204}:
        sys.stderr.write(f"{method} {url}: {status} {answer}\n")
        os._exit(1)


def _sleeper(tell: int) -> int:
    child = os.fork()
    if child == 0:
        os.close(tell)  # its end must say that the holder ended
        _sleep()
    return child


def _sleep() -> None:
    while True:
        signal.pause()


if __name__ == "__main__":
    {"stay": stay, "pass": pass_by}[sys.argv[1]](sys.argv[2], json.loads(sys.argv[3]))
