"""A libnvidia-ml.so.1 that answers from a text file, for programs that a test starts. The format is in fake_nvml.c."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("fake_nvml.c")
DRIVER_NOT_LOADED = 9  # nvmlReturn_t
GPU_IS_LOST = 15


@dataclass(frozen=True)
class Gpu:
    """One GPU of the fake. `processes` maps PIDs to bytes, or to None where NVML would not tell (vGPU); `drawing` has
    those that do not compute. `xids` are critical errors, each told once in the life of the program that asks."""

    uuid: str
    total: int
    name: str = "Fake GPU"
    reserved: int = 0
    unlisted: int = 0
    error: int = 0
    mig: bool = False
    hangs: bool = False
    xids: tuple[int, ...] = ()
    processes: Mapping[int, int | None] = field(default_factory=dict)
    drawing: Mapping[int, int] = field(default_factory=dict)


class FakeNvml:
    """The library and its state file.

    Args:
        library: from `build`.
        state: the file to write the GPUs into.
    """

    def __init__(self, library: Path, state: Path) -> None:
        self.library = library
        self.state = state
        self.write()

    @property
    def env(self) -> dict[str, str]:
        """What a program's environment needs to find this library before a real one."""
        return {"LD_LIBRARY_PATH": str(self.library.parent), "FAKE_NVML_STATE": str(self.state)}

    def write(self, *gpus: Gpu, init: int = 0, limits: bool = False, hidden: bool = False) -> None:
        """From now on these are the GPUs. The file changes in one step, so no reader sees half of it."""
        fresh = self.state.with_suffix(".new")
        head = [f"init {init}", *["limits"] * limits, *["hidden"] * hidden]
        fresh.write_text("\n".join([*head, *_lines(gpus), ""]))
        os.replace(fresh, self.state)

    @property
    def limits(self) -> list[tuple[str, str, int, int]]:
        """Every limit that was set: GPU, cgroup, soft, hard."""
        path = self.state.with_name(self.state.name + ".limits")
        rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [(uuid, cgroup, int(soft), int(hard)) for uuid, cgroup, soft, hard in rows]


def build(folder: Path) -> Path:
    """Compile the library into `folder`; skips the test that asks when this machine has no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("the fake libnvidia-ml needs a C compiler: there is no `cc` on PATH")
    library = folder / "libnvidia-ml.so.1"
    flags = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
    subprocess.run([compiler, *flags, "-o", str(library), str(SOURCE)], check=True)
    return library


def _lines(gpus: Sequence[Gpu]) -> list[str]:
    lines = [f"gpu {g.uuid} {g.total} {g.reserved} {g.unlisted} {g.error} {g.name}" for g in gpus]
    for index, gpu in enumerate(gpus):
        lines += [f"mig {index}"] * gpu.mig + [f"hang {index}"] * gpu.hangs
        lines += [f"xid {index} {number}" for number in gpu.xids]
        lines += [f"proc {index} {pid} {'none' if size is None else size}" for pid, size in gpu.processes.items()]
        lines += [f"draws {index} {pid} {size}" for pid, size in gpu.drawing.items()]
    return lines
