"""NVIDIA GPUs without one: the real nvidia-ml-py over a fake driver, alone and under the whole agent."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.fake_nvml import DRIVER_NOT_LOADED, GPU_IS_LOST, FakeNvml, Gpu
from tests.unit.conftest import NewAgent
from tests.unit.vram_agent.helpers import DEADLINE, ROOT, AgentProcess, Holder, eventually, lease_request
from vram_agent.api import GIB, MIB, EventKind, LeaseState

BIG = Gpu("GPU-big", 80 * GIB, name="NVIDIA H100 80GB HBM3", reserved=600 * MIB)
SMALL = Gpu("GPU-small", 24 * GIB, name="NVIDIA L4", reserved=300 * MIB)

# Opens a source of the kind in argv, on a node with (yes) or without (no) a driver's device files. A sample at each
# time on stdin.
PROBE = """
import dataclasses, json, os, sys
from unittest import mock
from vram_agent.devices import NoDeviceError
from vram_agent.sources import open_source

exists = os.path.exists
def on_this_node(path):
    return sys.argv[2] == "yes" if path == "/dev/nvidiactl" else exists(path)

with mock.patch("os.path.exists", on_this_node):
    try:
        source = open_source(sys.argv[1])
    except NoDeviceError as error:
        print(json.dumps({"no_device": str(error)}))
        sys.exit()
print(json.dumps([dataclasses.asdict(device) for device in source.devices()]), flush=True)
for line in sys.stdin:
    samples = {d.id: source.sample(d.id, [], float(line)) for d in source.devices() if not d.lost}
    print(json.dumps({device: dataclasses.asdict(sample) for device, sample in samples.items()}), flush=True)
"""


class Probe:
    """A process with a source of devices in it; `opened` is the devices, or why there are none."""

    def __init__(self, nvml: FakeNvml, kind: str, driver_files: str) -> None:
        program = [sys.executable, "-c", PROBE, kind, driver_files]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(program, cwd=ROOT, env=dict(os.environ) | nvml.env, stdin=pipe, stdout=pipe)
        self.opened = self._line()
        self.time = 0  # seconds

    def sample(self) -> dict[str, dict[str, Any]]:
        assert self.process.stdin is not None
        self.time += 1
        self.process.stdin.write(b"%d\n" % self.time)
        self.process.stdin.flush()
        samples: dict[str, dict[str, Any]] = self._line()
        return samples

    def _line(self) -> Any:
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], DEADLINE)[0], "the probe does not answer"
        return json.loads(self.process.stdout.readline())


LIMITS = """
import pathlib, sys
from vram_agent.devices import LimitError
from vram_agent.nvml import NvmlSource

source = NvmlSource(pathlib.Path(sys.argv[1]))
print(source.devices()[0].enforcement.value)
for call in sys.argv[2:]:
    try:
        print(eval("source." + call))
    except LimitError as error:
        print(error)
"""


@dataclass
class LimitProbe:
    """Calls a source in a process of its own, over a folder that stands for the tree of cgroups."""

    nvml: FakeNvml
    cgroups: Path

    def run(self, *calls: str) -> list[str]:
        """The enforcement of the first GPU, and what each call returned or said."""
        program = [sys.executable, "-c", LIMITS, str(self.cgroups), *calls]
        env = dict(os.environ) | self.nvml.env
        return subprocess.run(
            program, cwd=ROOT, env=env, check=True, capture_output=True, text=True
        ).stdout.splitlines()


NewProbe = Callable[..., Probe]


@pytest.fixture
def probe(nvml: FakeNvml) -> Iterator[NewProbe]:
    """Opens the devices of the node as they are now."""
    started: list[Probe] = []

    def new(kind: str = "nvml", driver_files: str = "yes") -> Probe:
        started.append(Probe(nvml, kind, driver_files))
        return started[-1]

    yield new
    for one in started:
        one.process.communicate(timeout=DEADLINE)


class TestSource:
    def test_two_gpus_of_different_size(self, nvml: FakeNvml, probe: NewProbe) -> None:
        nvml.write(BIG, SMALL)
        source = probe()
        assert [(d["id"], d["kind"], d["name"]) for d in source.opened] == [
            ("GPU-big", "nvml", "NVIDIA H100 80GB HBM3"),
            ("GPU-small", "nvml", "NVIDIA L4"),
        ]
        nothing = {"used": 0, "by_pid": {}, "taken": 1.0, "error": None}
        assert source.sample() == {
            "GPU-big": {"total": 80 * GIB, "reserved": 600 * MIB, **nothing},
            "GPU-small": {"total": 24 * GIB, "reserved": 300 * MIB, **nothing},
        }

    def test_memory_is_told_by_process_and_in_all(self, nvml: FakeNvml, probe: NewProbe) -> None:
        """A driver may count `reserved` into its `used`; ours never does."""
        nvml.write(BIG, Gpu("GPU-small", 24 * GIB, reserved=300 * MIB, unlisted=MIB, processes={11: GIB, 12: 2 * GIB}))
        samples = probe().sample()
        assert samples["GPU-big"]["used"] == 0
        assert samples["GPU-small"]["used"] == 3 * GIB + MIB
        assert samples["GPU-small"]["by_pid"] == {"11": GIB, "12": 2 * GIB}

    def test_every_sample_reads_anew(self, nvml: FakeNvml, probe: NewProbe) -> None:
        nvml.write(Gpu("GPU-a", GIB, processes={11: MIB}))
        source = probe()
        assert source.sample()["GPU-a"]["by_pid"] == {"11": MIB}
        nvml.write(Gpu("GPU-a", GIB))
        assert source.sample()["GPU-a"]["by_pid"] == {}

    def test_one_gpu_fails_and_the_other_goes_on(self, nvml: FakeNvml, probe: NewProbe) -> None:
        nvml.write(BIG, SMALL)
        source = probe()
        nvml.write(Gpu("GPU-big", 80 * GIB, error=GPU_IS_LOST), SMALL)
        samples = source.sample()
        assert samples["GPU-big"]["error"] == "NVML: GPU is lost"
        assert (samples["GPU-small"]["error"], samples["GPU-small"]["total"]) == (None, 24 * GIB)
        nvml.write(BIG, SMALL)
        assert source.sample()["GPU-big"]["error"] is None

    def test_a_gpu_that_is_lost_from_the_start_is_named(self, nvml: FakeNvml, probe: NewProbe) -> None:
        nvml.write(Gpu("GPU-big", 80 * GIB, error=GPU_IS_LOST), SMALL)
        lost, small = probe().opened
        assert (lost["id"], small["id"], small["lost"]) == ("index-0", "GPU-small", None)
        assert "could not open it: NVML: GPU is lost" in lost["lost"]

    def test_no_memory_by_process_is_an_error(self, nvml: FakeNvml, probe: NewProbe) -> None:
        nvml.write(Gpu("GPU-v", 80 * GIB, processes={11: GIB, 12: None}), SMALL)
        samples = probe().sample()
        assert "no per-process memory here (vGPU mode)" in samples["GPU-v"]["error"]
        assert samples["GPU-small"]["error"] is None

    def test_a_gpu_in_mig_mode_is_not_leased(self, nvml: FakeNvml, probe: NewProbe) -> None:
        nvml.write(Gpu("GPU-mig", 80 * GIB, mig=True), SMALL)
        samples = probe().sample()
        assert samples["GPU-mig"]["error"] == "MIG mode is on; Hive leases whole GPUs. FIX: nvidia-smi -mig 0"
        assert samples["GPU-small"]["error"] is None

    def test_what_draws_and_does_not_compute_is_listed(self, nvml: FakeNvml, probe: NewProbe) -> None:
        nvml.write(Gpu("GPU-a", 8 * GIB, processes={11: GIB}, drawing={12: MIB, 11: GIB}))
        sample = probe().sample()["GPU-a"]
        assert sample["by_pid"] == {"11": GIB, "12": MIB}

    def test_a_critical_error_stays(self, nvml: FakeNvml, probe: NewProbe) -> None:
        """79: the GPU has fallen off the bus. 31 is a program's own mistake."""
        nvml.write(BIG, SMALL)
        source = probe()
        nvml.write(replace(BIG, xids=(31, 79)), replace(SMALL, xids=(43,)))
        samples = source.sample()
        assert "the driver reported Xid 79 for it. FIX: " in samples["GPU-big"]["error"]
        assert samples["GPU-small"]["error"] is None
        nvml.write(BIG, SMALL)
        assert "Xid 79" in source.sample()["GPU-big"]["error"]


class TestNoDevice:
    @pytest.mark.parametrize("kind", ["nvml", "auto"])
    def test_a_driver_that_does_not_load(self, nvml: FakeNvml, probe: NewProbe, kind: str) -> None:
        nvml.write(init=DRIVER_NOT_LOADED)
        opened = probe(kind).opened
        assert opened["no_device"].startswith("NVML: Driver Not Loaded. FIX: ")

    def test_no_library(self, nvml: FakeNvml, probe: NewProbe) -> None:
        nvml.library = no_library(nvml)
        assert "NVML Shared Library Not Found. FIX: " in probe().opened["no_device"]

    def test_no_gpu(self, probe: NewProbe) -> None:
        assert probe().opened["no_device"].startswith("NVML shows no GPU on this node. FIX: ")

    def test_auto_takes_the_gpus_where_there_are_some(self, nvml: FakeNvml, probe: NewProbe) -> None:
        nvml.write(SMALL)
        assert probe("auto").opened[0]["id"] == "GPU-small"

    def test_auto_falls_back_to_the_host_where_nvml_is_absent(self, nvml: FakeNvml, probe: NewProbe) -> None:
        nvml.library = no_library(nvml)
        (device,) = probe("auto", driver_files="no").opened
        assert (device["id"], device["kind"]) == ("host", "host")

    def test_the_agent_says_so_in_one_line(self, nvml: FakeNvml, new_agent: NewAgent) -> None:
        agent = new_agent(HIVE_DEVICE_KIND="nvml", **nvml.env)
        assert agent.launch().wait() == 1
        (line,) = agent.log.read_text().splitlines()
        assert line.startswith("ERROR: NVML shows no GPU on this node. FIX: ")


def no_library(nvml: FakeNvml) -> Path:
    """A file that is no library, found before a real one."""
    folder = nvml.state.parent / "no_library"
    folder.mkdir()
    empty = folder / "libnvidia-ml.so.1"
    empty.touch()
    return empty


class TestAgent:
    @pytest.fixture
    def agent(self, nvml: FakeNvml, new_agent: NewAgent) -> AgentProcess:
        nvml.write(BIG, SMALL)
        return new_agent(HIVE_DEVICE_KIND="nvml", HIVE_HEADROOM_MIB="1024", **nvml.env).start()

    def take(self, agent: AgentProcess, holder: Holder, size: int, *devices: str) -> None:
        status, body = holder.do("ask", str(agent.socket), "POST", "/v1/leases", lease_request("r1", size, *devices))
        assert status == 200, body

    def test_a_lease_of_one_gpu_leaves_the_other_free(self, agent: AgentProcess, holder: Holder) -> None:
        before = {device.id: device.free for device in agent.state().devices}
        assert before == {
            "GPU-big": 80 * GIB - (600 + 64 + 1024) * MIB,
            "GPU-small": 24 * GIB - (300 + 64 + 1024) * MIB,
        }
        self.take(agent, holder, before["GPU-small"], "GPU-small")
        after = {device.id: device.free for device in agent.state().devices}
        assert after == {"GPU-big": before["GPU-big"], "GPU-small": 0}

    def test_a_process_without_a_lease_is_foreign_and_named(self, agent: AgentProcess, nvml: FakeNvml) -> None:
        nvml.write(BIG, Gpu("GPU-small", 24 * GIB, processes={os.getpid(): 5 * GIB}))
        eventually(lambda: agent.device("GPU-small").foreign == 5 * GIB, "the foreign memory is seen")
        (process,) = agent.device("GPU-small").processes
        assert (process.pid, process.bytes) == (os.getpid(), 5 * GIB)
        assert process.name == Path("/proc/self/comm").read_text().strip()
        assert agent.device("GPU-small").free == 19 * GIB - 64 * MIB
        assert agent.device("GPU-big").foreign == 0

    def test_bytes_of_a_dead_process_keep_the_lease_charged(
        self, agent: AgentProcess, nvml: FakeNvml, holder: Holder
    ) -> None:
        self.take(agent, holder, 20 * GIB, "GPU-small")
        nvml.write(BIG, Gpu("GPU-small", 24 * GIB, processes={holder.pid: 18 * GIB}))
        assert holder.do("ask", str(agent.socket), "POST", "/v1/leases/r1/active")[1]["used"] == {"GPU-small": 18 * GIB}
        holder.kill()
        agent.in_state("r1", LeaseState.ORPHANED)
        agent.sampled_again()
        device = agent.device("GPU-small")
        assert (device.leased, device.foreign, device.processes) == (20 * GIB, 0, ())
        nvml.write(BIG, SMALL)
        agent.gone("r1")
        assert agent.device("GPU-small").leased == 0

    def test_a_lost_gpu_grants_nothing_and_releases_nothing(
        self, agent: AgentProcess, nvml: FakeNvml, holder: Holder
    ) -> None:
        self.take(agent, holder, 20 * GIB, "GPU-small")
        nvml.write(BIG, Gpu("GPU-small", 24 * GIB, error=GPU_IS_LOST))
        eventually(lambda: agent.device("GPU-small").error == "NVML: GPU is lost", "the loss is seen")
        status, body = agent.ask("POST", "/v1/leases", lease_request("r2", 1, "GPU-small"))
        assert (status, body["error"]) == (409, "device GPU-small grants nothing: NVML: GPU is lost")
        assert agent.ask("POST", "/v1/leases", lease_request("r3", GIB, "GPU-big"))[0] == 200
        holder.kill()
        agent.in_state("r1", LeaseState.ORPHANED)
        nvml.write(BIG, SMALL)
        agent.gone("r1")

    def test_a_gpu_whose_driver_hangs_stops_nothing_else(
        self, agent: AgentProcess, nvml: FakeNvml, holder: Holder
    ) -> None:
        nvml.write(replace(BIG, hangs=True), SMALL)
        eventually(lambda: "is 3." in (agent.device("GPU-big").error or ""), "the last sample is too old")
        self.take(agent, holder, GIB, "GPU-small")
        assert agent.ask("POST", "/v1/leases", lease_request("r2", 1, "GPU-big"))[0] == 409
        nvml.write(BIG, SMALL)
        eventually(lambda: agent.device("GPU-big").error is None, "it answers again")

    def test_ends_while_a_driver_hangs(self, agent: AgentProcess, nvml: FakeNvml) -> None:
        nvml.write(replace(BIG, hangs=True), SMALL)
        agent.sampled_again()
        assert agent.stop() == 0

    def test_too_much_foreign_memory_puts_a_gpu_over(self, agent: AgentProcess, nvml: FakeNvml, holder: Holder) -> None:
        """No grants, an alarm that names the process, and nothing done to the engine that runs."""
        self.take(agent, holder, 20 * GIB, "GPU-small")
        me = os.getpid()
        nvml.write(BIG, Gpu("GPU-small", 24 * GIB, processes={holder.pid: 18 * GIB, me: 5 * GIB}))
        eventually(lambda: agent.device("GPU-small").over, "the GPU is over")
        texts = {event.kind: event.text for event in agent.state().events}
        assert f"(pid {me}) 5.00 GiB" in texts[EventKind.FOREIGN]
        assert texts[EventKind.OVER].startswith("GPU-small is over by 1.06 GiB: leases take 20.00 GiB")
        agent.in_state("r1", LeaseState.STARTING)
        nvml.write(BIG, Gpu("GPU-small", 24 * GIB, processes={holder.pid: 18 * GIB}))
        eventually(lambda: not agent.device("GPU-small").over, "it is over no more")
        assert {e.text for e in agent.state().events if e.kind is EventKind.CLEARED} == {
            "GPU-small: no longer over",
            "GPU-small: no longer foreign",
        }

    def test_learns_what_an_engine_takes_beside_its_plan(
        self, agent: AgentProcess, nvml: FakeNvml, holder: Holder
    ) -> None:
        """The next replica with this fingerprint divides its budget by that; a new agent knows it too."""
        request = lease_request("r1", 20 * GIB, "GPU-small") | {"planned": 15 * GIB, "fingerprint": "print"}
        assert holder.do("ask", str(agent.socket), "POST", "/v1/leases", request)[0] == 200
        nvml.write(BIG, Gpu("GPU-small", 24 * GIB, processes={holder.pid: 17 * GIB}))
        assert holder.do("ask", str(agent.socket), "POST", "/v1/leases/r1/active")[0] == 200
        assert agent.state().overheads == {"print": 2 * GIB}
        agent.stop(signal.SIGKILL)
        agent.start()
        assert agent.state().overheads == {"print": 2 * GIB}

    def test_a_lease_of_two_gpus_takes_both_or_none(
        self, agent: AgentProcess, holder: Holder, new_holder: Callable[[], Holder]
    ) -> None:
        self.take(agent, holder, 20 * GIB, "GPU-big", "GPU-small")
        assert [device.leased for device in agent.state().devices] == [20 * GIB, 20 * GIB]
        assert holder.do("ask", str(agent.socket), "POST", "/v1/leases/r1/active")[0] == 200
        request = lease_request("r2", 20 * GIB, "GPU-big", "GPU-small")
        status, body = new_holder().do("ask", str(agent.socket), "POST", "/v1/leases", request)
        assert (status, body["device"]) == (409, "GPU-small")
        assert [device.leased for device in agent.state().devices] == [20 * GIB, 20 * GIB]


class TestLimits:
    """The driver's own limits for cgroups. The tree is a folder here; real containers have their ids as names too."""

    @pytest.fixture
    def source(self, nvml: FakeNvml, tmp_path: Path) -> LimitProbe:
        nvml.write(SMALL, limits=True)
        (tmp_path / "cgroup" / "kubepods.slice" / "cri-containerd-abc.scope").mkdir(parents=True)
        return LimitProbe(nvml, tmp_path / "cgroup")

    def test_are_set_and_taken_away_for_a_container(self, source: LimitProbe, nvml: FakeNvml) -> None:
        answer = source.run(
            "limit('GPU-small', '/../../x/cri-containerd-abc.scope', 5)", "limit('GPU-small', 'abc', 0)"
        )
        folder = str(source.cgroups / "kubepods.slice" / "cri-containerd-abc.scope")
        assert answer == ["driver", "None", "there is no container with the cgroup abc"]
        assert nvml.limits == [("GPU-small", folder, 5, 5)]
        assert source.run("limit('GPU-small', '/y/cri-containerd-abc.scope', 0)") == ["driver", "None"]
        assert nvml.limits[-1] == ("GPU-small", folder, 0, 2**64 - 1)

    def test_are_not_used_where_the_driver_has_none(self, source: LimitProbe, nvml: FakeNvml) -> None:
        nvml.write(SMALL)
        assert source.run() == ["torch"]

    def test_are_not_used_where_the_agent_sees_no_containers(self, source: LimitProbe) -> None:
        shutil.rmtree(source.cgroups / "kubepods.slice")
        assert source.run() == ["torch"]
