"""What /proc says of real processes, strange names included."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.vram_agent.helpers import Holder
from vram_agent import processes
from vram_agent.api import MIB
from vram_agent.records import Process

STRANGE_NAMES = ["a b", "x) S 1 (", ") Z", "(((", "1 kB", "x kB", "a\nb", "\xc2\xb2 kB", "\xff\xfe", "caf\xe9"]


def live(pid: int) -> Process:
    process = processes.find(pid)
    assert process is not None
    return process


def family_of(roots: set[Process]) -> set[Process]:
    """The live ones, and all that descend from them, as of now."""
    return processes.Families(processes.listing()).of(roots)


def test_start_time_tells_this_process_from_a_later_one(holder: Holder) -> None:
    mine = processes.start_time(os.getpid())
    theirs = processes.start_time(holder.pid)
    assert mine is not None
    assert theirs is not None
    assert 0 < mine < theirs


def test_a_process_that_is_gone_is_none(holder: Holder) -> None:
    holder.kill()
    assert processes.start_time(holder.pid) is None
    assert processes.find(holder.pid) is None
    assert processes.resident(holder.pid) is None
    assert processes.name(holder.pid) == "?"


def test_a_zombie_does_not_count(holder: Holder) -> None:
    zombie = holder.do("leave_a_zombie")
    assert Path(f"/proc/{zombie}").exists()
    assert processes.find(zombie) is None
    assert family_of({live(holder.pid)}) == {live(holder.pid)}


def test_descendants_are_found_with_the_grandchild(holder: Holder) -> None:
    child, grandchild = holder.fork(generations=2)
    family = {live(holder.pid), live(child), live(grandchild)}
    assert family_of({live(holder.pid)}) == family


def test_an_orphan_is_found_from_the_former_set(holder: Holder) -> None:
    child, grandchild = holder.fork(generations=2)
    family = family_of({live(holder.pid)})
    holder.kill()
    assert family_of(family) == {live(child), live(grandchild)}


def test_a_reused_pid_is_nobody(holder: Holder) -> None:
    holder.fork()
    former = Process(holder.pid, live(holder.pid).start - 1)
    assert family_of({former}) == set()


@pytest.mark.parametrize("name", STRANGE_NAMES)
def test_a_strange_name_hides_nothing(new_holder: Callable[[], Holder], name: str) -> None:
    plain, strange = new_holder(), new_holder()
    strange.do("rename", name)
    assert Path(f"/proc/{strange.pid}/comm").read_bytes() == name.encode("latin-1") + b"\n"
    (child,) = strange.fork()
    start = processes.start_time(strange.pid)
    assert start is not None
    assert start >= live(plain.pid).start
    assert family_of({live(strange.pid)}) == {live(strange.pid), live(child)}
    assert (processes.resident(strange.pid) or 0) > MIB
    assert processes.name(strange.pid) == name.encode("latin-1").decode(errors="replace")


def test_resident_is_close_to_what_is_allocated(holder: Holder) -> None:
    holder.do("hold", 1)  # its start is over
    before = processes.resident(holder.pid)
    holder.do("hold", 64 * MIB)
    after = processes.resident(holder.pid)
    assert before is not None
    assert after is not None
    assert 64 * MIB <= after - before < 66 * MIB


def test_files_that_a_process_maps_are_not_resident(holder: Holder) -> None:
    """Python's own code is mapped: VmRSS counts it, and the kernel could drop it at any time."""
    holder.do("hold", 1)
    resident = processes.resident(holder.pid)
    assert resident is not None
    assert resident < processes.kib_fields(Path(f"/proc/{holder.pid}/status"))["VmRSS"]


def test_a_process_that_the_listing_does_not_have_has_no_family(holder: Holder) -> None:
    before = processes.Families(processes.listing())
    (child,) = holder.fork()
    assert before.of({live(child)}) == set()
    assert before.of({live(holder.pid)}) == {live(holder.pid)}


def test_the_cgroup_is_that_of_version_2(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    lines = ["4:memory:/old", "0::/../../kubepods.slice/cri-containerd-abc.scope", ""]
    (tmp_path / "7" / "cgroup").write_text("\n".join(lines))
    assert processes.cgroup(7, tmp_path) == "/../../kubepods.slice/cri-containerd-abc.scope"
    assert processes.cgroup(8, tmp_path) is None


def test_a_stray_is_known_by_its_lost_parent_and_keeps_its_group(holder: Holder) -> None:
    before = processes.now()
    (child,) = holder.fork()
    stray = live(child)
    assert stray not in processes.Families(processes.listing()).strays(before)
    holder.kill()
    strays = processes.Families(processes.listing()).strays(before)
    assert strays[stray] == processes.group(child) == os.getpgid(child)
    assert stray not in processes.Families(processes.listing()).strays(processes.now() + 1)


def test_the_first_process_of_a_namespace_is_told_from_others(tmp_path: Path) -> None:
    assert processes.is_init(1)
    assert not processes.is_init(os.getpid())
    (tmp_path / "70").mkdir()
    (tmp_path / "70" / "status").write_text("Name:\tray\nNSpid:\t70\t1\n")
    assert processes.is_init(70, tmp_path)
