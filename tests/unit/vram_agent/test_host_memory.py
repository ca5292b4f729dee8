"""The memory of the `host` device, from folders that look like a machine's."""

from pathlib import Path

import pytest

from vram_agent import host_memory
from vram_agent.api import GIB, MIB
from vram_agent.devices import HostSource
from vram_agent.host_memory import HostMemory

V2 = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
    "35 31 0:32 {shown} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)
NO_LIMIT_V1 = 9223372036854771712
MACHINE = HostMemory(total=64 * GIB, used=14 * GIB)


class Machine:
    """A fake root folder: 64 GiB, 50 GiB of them available."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("proc/meminfo", f"MemTotal: {64 * GIB >> 10} kB\nMemAvailable: {50 * GIB >> 10} kB\n")

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def place(self, mountinfo: str, own: str, first: str) -> None:
        """This process's cgroups and those of process 1."""
        self.write("proc/self/mountinfo", f"23 1 8:1 / / rw - ext4 /dev/sda rw\n{mountinfo}")
        self.write("proc/self/cgroup", own)
        self.write("proc/1/cgroup", first)

    def v2(self, folder: str, limit: int | str, usage: int, inactive: int = 0, active: int = 0) -> None:
        folder = f"sys/fs/cgroup/{folder}"
        self.write(f"{folder}/memory.max", f"{limit}\n")
        self.write(f"{folder}/memory.current", f"{usage}\n")
        self.write(f"{folder}/memory.stat", f"anon 1\ninactive_file {inactive}\nactive_file {active}\n")

    def v1(self, folder: str, limit: int, usage: int, inactive: int = 0, active: int = 0) -> None:
        """Version 1 tells a cgroup's own figures beside those with all below it."""
        folder = f"sys/fs/cgroup/memory/{folder}"
        self.write(f"{folder}/memory.limit_in_bytes", f"{limit}\n")
        self.write(f"{folder}/memory.usage_in_bytes", f"{usage}\n")
        stat = f"inactive_file 0\nactive_file 0\ntotal_inactive_file {inactive}\ntotal_active_file {active}\n"
        self.write(f"{folder}/memory.stat", stat)

    def read(self) -> HostMemory:
        return host_memory.read(self.root)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


class TestMachine:
    def test_without_cgroups(self, machine: Machine) -> None:
        machine.place("", "", "")
        assert machine.read() == MACHINE

    def test_without_a_limit_v2(self, machine: Machine) -> None:
        machine.place(V2, "0::/app\n", "0::/init.scope\n")
        machine.v2("app", "max", 3 * GIB)
        assert machine.read() == MACHINE

    def test_without_a_limit_v1(self, machine: Machine) -> None:
        machine.place(V1.format(shown="/"), "4:memory:/app\n1:cpu:/\n0::/\n", "4:memory:/\n0::/\n")
        machine.v1("app", NO_LIMIT_V1, 3 * GIB)
        machine.v1(".", NO_LIMIT_V1, 5 * GIB)
        assert machine.read() == MACHINE

    def test_a_limit_above_the_machines_memory_is_none(self, machine: Machine) -> None:
        machine.place(V2, "0::/app\n", "0::/\n")
        machine.v2("app", 100 * GIB, 3 * GIB)
        assert machine.read() == MACHINE


class TestCgroup:
    def test_v2_without_what_the_kernel_can_drop(self, machine: Machine) -> None:
        machine.place(V2, "0::/app\n", "0::/init.scope\n")
        machine.v2("app", 3 * GIB, GIB, inactive=200 * MIB, active=100 * MIB)
        assert machine.read() == HostMemory(total=3 * GIB, used=724 * MIB)

    def test_v1_without_what_the_kernel_can_drop(self, machine: Machine) -> None:
        machine.place(V1.format(shown="/"), "4:memory:/a/b\n1:cpu:/\n0::/\n", "4:memory:/\n0::/\n")
        machine.v1("a/b", 3 * GIB, GIB, inactive=200 * MIB, active=100 * MIB)
        assert machine.read() == HostMemory(total=3 * GIB, used=724 * MIB)

    def test_the_limit_may_be_above(self, machine: Machine) -> None:
        """The smallest limit on the way up, with the use of all that it holds."""
        machine.place(V2, "0::/slice/app/leaf\n", "0::/\n")
        machine.v2("slice/app/leaf", "max", GIB)
        machine.v2("slice/app", 8 * GIB, 2 * GIB)
        machine.v2("slice", 16 * GIB, 3 * GIB)
        assert machine.read() == HostMemory(total=8 * GIB, used=2 * GIB)

    def test_a_container_with_its_own_view_v2(self, machine: Machine) -> None:
        machine.place(V2, "0::/\n", "0::/\n")
        machine.v2(".", 3 * GIB, GIB)
        assert machine.read() == HostMemory(total=3 * GIB, used=GIB)

    def test_a_container_without_its_own_view_v1(self, machine: Machine) -> None:
        """The paths are the host's, while the mount shows the container's cgroup alone."""
        machine.place(V1.format(shown="/docker/c1"), "4:memory:/docker/c1\n", "4:memory:/docker/c1\n")
        machine.v1(".", 3 * GIB, GIB)
        assert machine.read() == HostMemory(total=3 * GIB, used=GIB)

    def test_a_short_machine_gives_less_than_the_cgroup_allows(self, machine: Machine) -> None:
        machine.place(V2, "0::/app\n", "0::/\n")
        machine.v2("app", 60 * GIB, GIB)
        assert machine.read() == HostMemory(total=60 * GIB, used=10 * GIB)


class TestContainerThatSharesTheNodesPids:
    """The chart's agent: its own small limit says nothing of the pods beside it."""

    def test_v2(self, machine: Machine) -> None:
        machine.place(V2, "0::/\n", "0::/../../../init.scope\n")
        machine.v2(".", 256 * MIB, 50 * MIB)
        assert machine.read() == MACHINE

    def test_v1(self, machine: Machine) -> None:
        machine.place(V1.format(shown="/kubepods/p/c"), "4:memory:/kubepods/p/c\n", "4:memory:/\n")
        machine.v1(".", 256 * MIB, 50 * MIB)
        assert machine.read() == MACHINE

    def test_process_1_is_hidden(self, machine: Machine) -> None:
        machine.place(V2, "0::/\n", "")
        (machine.root / "proc/1/cgroup").unlink()
        machine.v2(".", 256 * MIB, 50 * MIB)
        assert machine.read() == MACHINE


def test_the_host_device_has_this_memory(machine: Machine) -> None:
    machine.place(V2, "0::/app\n", "0::/\n")
    machine.v2("app", 3 * GIB, GIB)
    machine.write("proc/11/status", "RssAnon: 1024 kB\nRssShmem: 1024 kB\nRssFile: 4096 kB\n")
    sample = HostSource(machine.root).sample("host", [11, 12], 5.0)
    assert (sample.total, sample.used, sample.by_pid, sample.taken) == (3 * GIB, GIB, {11: 2 * MIB}, 5.0)
