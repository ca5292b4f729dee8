"""The agent inside the test: its rounds are made by hand, so what needs minutes or a rare moment needs neither."""

import asyncio
import os
import threading
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.vram_agent.helpers import DEADLINE, Holder, eventually
from vram_agent import processes
from vram_agent.agent import Agent, NotHolderError
from vram_agent.api import MIB, EventKind, LeaseRequest, LeaseState
from vram_agent.devices import HostSource
from vram_agent.records import DeviceInfo, RefusedError, Sample
from vram_agent.settings import Settings

GRACE = 3600.0


class OneGpu:
    """A source of one GPU with 100 bytes."""

    def __init__(self) -> None:
        self.used = 0
        self.error: str | None = None

    def devices(self) -> list[DeviceInfo]:
        return [DeviceInfo(id="gpu0", kind="nvml", name="GPU")]

    def sample(self, device: str, pids: Collection[int], now: float) -> Sample:
        return Sample(total=100, reserved=0, used=self.used, by_pid={}, taken=now, error=self.error)

    def limit(self, device: str, cgroup: str, size: int) -> None:
        raise AssertionError("nobody said that this GPU can")


class TwoGpus(OneGpu):
    """The first one answers only while `hang` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.hang = threading.Event()
        self.hang.set()

    def devices(self) -> list[DeviceInfo]:
        return [DeviceInfo(id=device, kind="nvml", name="GPU") for device in ("gpu0", "gpu1")]

    def sample(self, device: str, pids: Collection[int], now: float) -> Sample:
        if device == "gpu0":
            assert self.hang.wait(DEADLINE)
        return super().sample(device, pids, now)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        socket=tmp_path / "agent.sock",
        host="127.0.0.1",
        port=0,
        kind="host",
        node="test-node",
        headroom=0,
        safety=0,
        period=GRACE,
        patience=0,
        clear_after=0,
        orphan_grace=GRACE,
    )


@pytest.fixture
def gpu() -> OneGpu:
    return OneGpu()


@pytest.fixture
async def agent(settings: Settings, gpu: OneGpu) -> Agent:
    """An agent of that GPU that has sampled once."""
    agent = Agent(settings, gpu)
    await agent.look()
    return agent


def request(lease_id: str, size: int, device: str = "gpu0") -> LeaseRequest:
    return LeaseRequest(request_id=lease_id, model=lease_id, bytes=size, devices=(device,))


def orphans_ended(agent: Agent) -> float | None:
    return agent.metrics.registry.get_sample_value("hive_orphans_ended_total", {"node": "test-node"})


def refused(agent: Agent, reason: str = "no_room") -> float | None:
    labels = {"node": "test-node", "reason": reason}
    return agent.metrics.registry.get_sample_value("hive_lease_refusals_total", labels)


async def queued(agent: Agent, lease_id: str, size: int, pid: int) -> asyncio.Task[object]:
    """An acquire that waits for its turn."""
    task: asyncio.Task[object] = asyncio.create_task(agent.acquire(request(lease_id, size), pid))
    await until(lambda: lease_id in agent.ledger.entries)
    return task


async def until(look: Callable[[], object]) -> None:
    """Let the event loop run until `look` is true."""
    async with asyncio.timeout(DEADLINE):
        while not look():  # noqa: ASYNC110 (what is looked at has no event of its own)
            await asyncio.sleep(0.005)


class TestOrphans:
    @pytest.fixture
    async def host_agent(self, settings: Settings) -> Agent:
        agent = Agent(settings, HostSource())
        await agent.look()
        return agent

    async def orphan(self, agent: Agent, holder: Holder, *, stubborn: bool) -> int:
        """A child with memory whose parent, the holder of the lease `r1`, was killed."""
        await agent.acquire(request("r1", MIB, "host"), holder.pid)
        (child,) = holder.fork(32 * MIB, stubborn=stubborn)
        await agent.look()
        holder.kill()
        await agent.look()
        return child

    async def grow_older(self, agent: Agent, seconds: float) -> None:
        agent.ledger.entries["r1"].since -= seconds
        await agent.look()

    async def test_are_left_alone_during_the_grace_time(self, host_agent: Agent, holder: Holder) -> None:
        child = await self.orphan(host_agent, holder, stubborn=False)
        await self.grow_older(host_agent, GRACE / 2)
        (lease,) = host_agent.state().leases
        assert (lease.state, lease.pids) == (LeaseState.ORPHANED, (child,))
        assert lease.used["host"] >= 32 * MIB
        assert orphans_ended(host_agent) == 0

    async def test_are_asked_to_end_and_then_the_lease_ends(self, host_agent: Agent, holder: Holder) -> None:
        child = await self.orphan(host_agent, holder, stubborn=False)
        await self.grow_older(host_agent, GRACE)
        eventually(lambda: processes.find(child) is None, "the child ends")
        await host_agent.look()
        assert host_agent.state().leases == ()
        assert orphans_ended(host_agent) == 1

    async def test_are_killed_when_they_do_not_end(self, host_agent: Agent, holder: Holder) -> None:
        child = await self.orphan(host_agent, holder, stubborn=True)
        await self.grow_older(host_agent, GRACE)
        assert holder.answer() == "asked to end"
        await self.grow_older(host_agent, GRACE / 2)
        assert processes.find(child) is not None
        await self.grow_older(host_agent, GRACE / 2)
        eventually(lambda: processes.find(child) is None, "the child is killed")
        await host_agent.look()
        assert host_agent.state().leases == ()
        assert orphans_ended(host_agent) == 1, "it was counted when it was asked"
        assert holder.rest() == b"", "it was asked once"

    async def test_a_child_that_nobody_saw_below_its_parent_is_one(self, host_agent: Agent, holder: Holder) -> None:
        """It is born, and its parent dies, between two rounds."""
        await host_agent.acquire(request("r1", MIB, "host"), holder.pid)
        (child,) = holder.fork(MIB)
        holder.kill()
        await host_agent.look()
        (lease,) = host_agent.state().leases
        assert (lease.state, lease.pids) == (LeaseState.ORPHANED, (child,))

    async def test_also_when_the_agent_was_away(
        self, host_agent: Agent, settings: Settings, holder: Holder, new_holder: Callable[[], Holder]
    ) -> None:
        older = new_holder()
        await host_agent.acquire(request("r1", MIB, "host"), holder.pid)
        (child,) = holder.fork(MIB)
        (other,) = older.fork(MIB)
        holder.kill()
        restarted = Agent(settings, HostSource())
        restarted.restore()
        await restarted.look()
        (lease,) = restarted.state().leases
        assert (lease.state, lease.pids) == (LeaseState.ORPHANED, (child,)), f"{other} has its parent"

    async def test_of_a_holder_that_lives_are_none(self, host_agent: Agent, holder: Holder) -> None:
        await host_agent.acquire(request("r1", MIB, "host"), holder.pid)
        (child,) = holder.fork()
        host_agent.drain("r1", holder.pid)
        await self.grow_older(host_agent, 10 * GRACE)
        assert processes.find(child) is not None
        assert host_agent.state().leases[0].state is LeaseState.DRAINING


class TestWaiting:
    async def test_ends_with_a_refusal_when_it_has_become_hopeless(self, agent: Agent, gpu: OneGpu) -> None:
        await agent.acquire(request("first", 40), os.getpid())
        waiter = await queued(agent, "second", 40, os.getpid())
        gpu.used = 50
        await agent.activate("first", os.getpid())
        with pytest.raises(RefusedError) as caught:
            await asyncio.wait_for(waiter, DEADLINE)
        assert (caught.value.refusal.asked, caught.value.refusal.free) == (40, 10)
        assert refused(agent) == 1

    async def test_ends_with_a_refusal_when_the_device_fails(self, agent: Agent, gpu: OneGpu) -> None:
        await agent.acquire(request("first", 40), os.getpid())
        waiter = await queued(agent, "second", 40, os.getpid())
        gpu.error = "GPU is lost"
        await agent.look()
        with pytest.raises(RefusedError, match="GPU is lost"):
            await asyncio.wait_for(waiter, DEADLINE)

    async def test_ends_when_the_waiting_process_dies(self, agent: Agent, holder: Holder) -> None:
        await agent.acquire(request("first", 40), os.getpid())
        waiter = await queued(agent, "second", 40, holder.pid)
        holder.kill()
        with pytest.raises(NotHolderError, match=f"process {holder.pid} died while it waited"):
            await asyncio.wait_for(waiter, DEADLINE)

    async def test_that_is_cancelled_leaves_the_queue(self, agent: Agent) -> None:
        await agent.acquire(request("first", 40), os.getpid())
        waiter = await queued(agent, "second", 40, os.getpid())
        waiter.cancel()
        await asyncio.wait({waiter})
        assert list(agent.ledger.entries) == ["first"]

    async def test_a_refusal_that_nobody_heard_does_not_hit_a_later_request(self, agent: Agent, gpu: OneGpu) -> None:
        """The connection breaks in the moment of the refusal; the holder asks again with the same id."""
        await agent.acquire(request("first", 40), os.getpid())
        waiter = await queued(agent, "second", 40, os.getpid())
        gpu.error = "GPU is lost"
        await agent.look()
        waiter.cancel()
        await asyncio.wait({waiter})
        gpu.error = None
        await agent.look()
        await agent.activate("first", os.getpid())
        assert (await agent.acquire(request("second", 40), os.getpid())).state is LeaseState.STARTING

    async def test_a_dead_process_gets_nothing(self, agent: Agent, holder: Holder) -> None:
        holder.kill()
        with pytest.raises(NotHolderError, match=f"process {holder.pid} is gone"):
            await agent.acquire(request("r1", 40), holder.pid)
        assert agent.state().leases == ()


class TestRounds:
    async def test_go_on_after_one_that_failed(self, settings: Settings, gpu: OneGpu, tmp_path: Path) -> None:
        """Here the ledger's file can't be written for a while."""
        obstacle = tmp_path / "leases.new"
        obstacle.mkdir()
        agent = Agent(replace(settings, period=0.01), gpu)
        sampling = asyncio.create_task(agent.run())
        await until(lambda: agent.ledger.samples)
        obstacle.rmdir()
        await until(settings.ledger_file.exists)
        sampling.cancel()
        await asyncio.wait({sampling})
        assert sampling.cancelled()

    async def test_the_death_of_a_holder_is_seen_without_a_round(self, agent: Agent, holder: Holder) -> None:
        await agent.acquire(request("r1", 40), holder.pid)
        holder.kill()
        await until(lambda: not agent.ledger.entries)

    async def test_also_of_a_holder_from_before_the_restart(
        self, agent: Agent, settings: Settings, gpu: OneGpu, holder: Holder
    ) -> None:
        await agent.acquire(request("r1", 40), holder.pid)
        restarted = Agent(settings, gpu)
        restarted.restore()
        await restarted.look()
        assert [lease.id for lease in restarted.state().leases] == ["r1"]
        holder.kill()
        await until(lambda: not restarted.ledger.entries)

    async def test_a_lease_on_a_device_that_is_gone_stays_until_its_process_ends(
        self, agent: Agent, settings: Settings, holder: Holder
    ) -> None:
        await agent.acquire(request("r1", 40), holder.pid)
        restarted = Agent(settings, HostSource())
        restarted.restore()
        await restarted.look()
        assert [lease.id for lease in restarted.state().leases] == ["r1"]
        gone = next(device for device in restarted.state().devices if device.id == "gpu0")
        assert "the driver does not show it any more" in (gone.error or "")
        holder.kill()
        await until(lambda: not restarted.ledger.entries)
        assert restarted.state().leases == ()

    async def test_a_device_that_hangs_does_not_stop_the_others(self, settings: Settings, holder: Holder) -> None:
        """Its last sample grows stale, and then it says so."""
        source = TwoGpus()
        agent = Agent(replace(settings, period=0.02), source)
        await agent.look()
        source.hang.clear()
        await until(lambda: not source.hang.is_set())
        looking = asyncio.create_task(agent.run())
        await until(lambda: "old (limit" in (agent.state().devices[0].error or ""))
        with pytest.raises(RefusedError, match="gpu0 grants nothing: the last sample is"):
            await agent.acquire(request("r1", 40, "gpu0"), holder.pid)
        assert (await agent.acquire(request("r2", 40, "gpu1"), holder.pid)).state is LeaseState.STARTING
        source.hang.set()
        await until(lambda: agent.state().devices[0].error is None)
        kinds = [(event.kind, event.device) for event in agent.state().events]
        assert (EventKind.DEVICE, "gpu0") in kinds
        assert kinds[-1] == (EventKind.CLEARED, "gpu0")
        looking.cancel()
        await asyncio.wait({looking})

    async def test_a_grant_that_can_not_be_saved_is_not_given(
        self, agent: Agent, settings: Settings, tmp_path: Path
    ) -> None:
        obstacle = tmp_path / "leases.new"
        obstacle.mkdir()
        with pytest.raises(RefusedError, match="gpu0 grants nothing: the ledger's file can't be written"):
            await agent.acquire(request("r1", 40), os.getpid())
        obstacle.rmdir()
        await agent.look()
        assert (await agent.acquire(request("r1", 40), os.getpid())).state is LeaseState.STARTING


class TestRequestId:
    """A client that hears no answer asks again with the same id."""

    async def test_two_that_wait_for_one_lease_both_get_it(self, agent: Agent) -> None:
        await agent.acquire(request("first", 40), os.getpid())
        one = await queued(agent, "second", 40, os.getpid())
        other = asyncio.create_task(agent.acquire(request("second", 40), os.getpid()))
        await agent.activate("first", os.getpid())
        leases = await asyncio.wait_for(asyncio.gather(one, other), DEADLINE)
        assert [lease.id for lease in leases] == ["second", "second"]
        assert len(agent.state().leases) == 2

    async def test_the_first_one_hangs_up_and_the_second_keeps_the_place(self, agent: Agent) -> None:
        await agent.acquire(request("first", 40), os.getpid())
        one = await queued(agent, "second", 40, os.getpid())
        other = asyncio.create_task(agent.acquire(request("second", 40), os.getpid()))
        await until(lambda: agent._waiters["second"] == 2)
        one.cancel()
        await asyncio.wait({one})
        await agent.activate("first", os.getpid())
        assert (await asyncio.wait_for(other, DEADLINE)).state is LeaseState.STARTING

    async def test_the_last_one_hangs_up_in_the_moment_of_the_grant(self, agent: Agent) -> None:
        await agent.acquire(request("first", 40), os.getpid())
        waiter = await queued(agent, "second", 40, os.getpid())
        await until(lambda: agent.ledger.entries["second"].admitted)
        agent.ledger.activate("first", 0.0)
        agent._settle()
        assert agent.ledger.entries["second"].state is LeaseState.STARTING
        waiter.cancel()
        await asyncio.wait({waiter})
        assert list(agent.ledger.entries) == ["first"]


class TestSleep:
    async def test_gives_bytes_back_and_takes_them_again(self, agent: Agent) -> None:
        await agent.acquire(request("r1", 60), os.getpid())
        await agent.activate("r1", os.getpid())
        asleep = await agent.sleep("r1", os.getpid())
        assert (asleep.state, asleep.charged) == (LeaseState.SLEEPING, {"gpu0": 0})
        await agent.acquire(request("r2", 90), os.getpid())
        await agent.activate("r2", os.getpid())
        with pytest.raises(RefusedError, match="r1 asked for 60 B"):
            await agent.wake("r1", os.getpid())
        assert agent.state().leases[0].state is LeaseState.SLEEPING
        assert refused(agent) == 1
        agent.drain("r2", os.getpid())
        waking = asyncio.create_task(agent.wake("r1", os.getpid()))
        await until(lambda: agent.state().leases[0].place == 1)
        del agent.ledger.entries["r2"]
        await agent.look()
        assert (await asyncio.wait_for(waking, DEADLINE)).state is LeaseState.STARTING
