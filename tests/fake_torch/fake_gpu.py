"""The memory of the fake NVML's GPUs, as processes take it and as it comes back when they end.

All who change the state file do it under one lock, by renaming a new file over it.
"""

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

RELEASE = 0.05  # seconds from a process's end until its memory is back, as drivers take some


class Gpu(NamedTuple):
    index: int
    uuid: str
    total: int
    free: int


def gpus(state: Path) -> list[Gpu]:
    return _gpus(state.read_text().splitlines())


def hold(state: Path, index: int, pid: int, size: int) -> bool:
    """From now on `pid` holds `size` bytes of the GPU; False when there are not so many."""
    with _locked(state) as (lines, write):
        others = [line for line in lines if not line.startswith(f"proc {index} {pid} ")]
        if size > _gpus(others)[index].free:
            return False
        write([*others, f"proc {index} {pid} {size}"])
        return True


def release_dead(state: Path) -> None:
    """Take processes that have ended off the GPUs."""
    if not state.exists():
        return
    pids = {int(line.split()[2]) for line in state.read_text().splitlines() if line.startswith("proc ")}
    dead = {pid for pid in pids if not _alive(pid)}
    if dead:
        time.sleep(RELEASE)
        with _locked(state) as (lines, write):
            write([line for line in lines if not (line.startswith("proc ") and int(line.split()[2]) in dead)])


@contextlib.contextmanager
def driver(state: Path) -> Iterator[None]:
    """What frees the memory of processes that end, while this lasts."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(0.01):
            release_dead(state)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def _locked(state: Path) -> Iterator[tuple[list[str], Callable[[list[str]], None]]]:
    def write(lines: list[str]) -> None:
        fresh = state.with_suffix(".new")
        fresh.write_text("\n".join([*lines, ""]))
        os.replace(fresh, state)

    with state.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield state.read_text().splitlines(), write


def _gpus(lines: list[str]) -> list[Gpu]:
    found = []
    for line in lines:
        if line.startswith("gpu "):
            _, uuid, total, reserved, unlisted, _ = line.split(" ", 5)
            index = len(found)
            held = sum(int(other.split()[3]) for other in lines if other.startswith(f"proc {index} "))
            found.append(Gpu(index, uuid, int(total), int(total) - int(reserved) - int(unlisted) - held))
    return found


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
