"""Each rule of the ledger by example. One device leases 80 bytes while no more than the headroom of 10 is foreign."""

from dataclasses import replace

import pytest

from tests.unit.vram_agent.world import HEADROOM, LEASABLE, OUTSIDER, STALE_AFTER, World
from vram_agent import views
from vram_agent.api import Claim, LeaseRequest, LeaseState, Reason
from vram_agent.ledger import LEAVING_PATIENCE, QUEUE_LIMIT
from vram_agent.records import Process, RefusedError


@pytest.fixture
def world() -> World:
    return World("gpu0", "gpu1")


def refusal_of(world: World, size: int, *devices: str) -> RefusedError:
    """The refusal that such a request gets; it leaves nothing behind."""
    before = dict(world.ledger.entries)
    with pytest.raises(RefusedError) as caught:
        world.ask("refused", size, *devices)
    assert world.ledger.entries == before
    return caught.value


class TestGrant:
    def test_grants_all_that_can_be_leased(self, world: World) -> None:
        assert world.ask("a", LEASABLE, "gpu0").state is LeaseState.STARTING
        assert world.ledger.free("gpu0") == 0
        assert world.ledger.free("gpu1") == LEASABLE

    def test_refuses_one_byte_more(self, world: World) -> None:
        refusal = refusal_of(world, LEASABLE + 1, "gpu0").refusal
        assert (refusal.device, refusal.asked, refusal.free) == ("gpu0", 81, 80)

    def test_refusal_names_the_holders_largest_first(self, world: World) -> None:
        small = world.serve("small", 15, "gpu0")
        big = world.serve("big", 25, "gpu0")
        error = refusal_of(world, 60, "gpu0")
        assert error.refusal.free == 40
        assert error.refusal.holders == (
            f"25 B big (ACTIVE, pid {big.holder.pid})",
            f"15 B small (ACTIVE, pid {small.holder.pid})",
            "10 B headroom",
        )
        for figure in ("60 bytes", "40 bytes", "gpu0", *error.refusal.holders):
            assert figure in str(error)

    def test_refusal_names_foreign_memory_past_the_headroom(self, world: World) -> None:
        world.foreign("gpu0", 30)
        world.observe()
        assert refusal_of(world, 70, "gpu0").refusal.holders == ("30 B processes without a lease",)

    def test_same_request_id_gets_the_same_lease(self, world: World) -> None:
        first = world.ask("a", 60, "gpu0")
        assert world.ask("a", 60, "gpu0", holder=first.holder) is first
        assert world.ledger.free("gpu0") == LEASABLE - 60

    def test_several_devices_all_or_none(self, world: World) -> None:
        world.serve("a", 60, "gpu1")
        assert refusal_of(world, 30, "gpu0", "gpu1").refusal.device == "gpu1"
        assert world.ledger.free("gpu0") == LEASABLE
        world.serve("b", 20, "gpu0", "gpu1")
        assert (world.ledger.free("gpu0"), world.ledger.free("gpu1")) == (60, 0)

    def test_a_device_named_twice_counts_once(self, world: World) -> None:
        assert world.ask("a", 60, "gpu0", "gpu0").devices == ("gpu0",)
        assert world.ledger.free("gpu0") == LEASABLE - 60

    def test_unknown_device_is_refused_with_those_that_exist(self, world: World) -> None:
        assert "gpu9 is not on this node; it has gpu0, gpu1" in str(refusal_of(world, 1, "gpu9"))


class TestQueue:
    def test_one_start_on_a_device(self, world: World) -> None:
        first = world.ask("first", 10, "gpu0")
        second = world.ask("second", 10, "gpu0")
        elsewhere = world.ask("elsewhere", 10, "gpu1")
        assert [e.state for e in (first, second, elsewhere)] == ["STARTING", "PENDING", "STARTING"]
        world.ledger.activate("first", world.now)
        world.settle()
        assert second.state is LeaseState.STARTING

    def test_a_waiter_owns_nothing(self, world: World) -> None:
        world.ask("first", 10, "gpu0")
        world.ask("second", 30, "gpu0", "gpu1")
        assert (world.ledger.free("gpu0"), world.ledger.free("gpu1")) == (LEASABLE - 10, LEASABLE)

    def test_a_waiter_counts_against_later_requests(self, world: World) -> None:
        world.ask("first", 10, "gpu0")
        world.ask("second", 50, "gpu0")
        assert refusal_of(world, 30, "gpu0").refusal.free == 20

    def test_waits_for_a_leaving_lease(self, world: World) -> None:
        leaving = world.serve("leaving", 60, "gpu0")
        world.ledger.drain("leaving", world.now)
        waiter = world.ask("waiter", 60, "gpu0")
        world.observe()
        world.settle()
        assert waiter.state == "PENDING"
        world.kill(leaving.holder)
        world.rounds()
        world.settle()
        assert waiter.state == "STARTING"

    def test_does_not_wait_for_a_lease_that_stays(self, world: World) -> None:
        world.serve("staying", 60, "gpu0")
        assert refusal_of(world, 60, "gpu0").refusal.free == 20

    def test_a_small_request_does_not_overtake_a_big_one(self, world: World) -> None:
        leaving = world.serve("leaving", 60, "gpu0")
        world.ledger.drain("leaving", world.now)
        big = world.ask("big", 60, "gpu0")
        small = world.ask("small", 20, "gpu0")
        assert (big.state, small.state) == ("PENDING", "PENDING")
        assert world.ledger.free("gpu0") == 20, "small would fit now"
        world.kill(leaving.holder)
        world.rounds()
        world.settle()
        assert (big.state, small.state) == ("STARTING", "PENDING")
        world.ledger.activate("big", world.now)
        world.settle()
        assert small.state is LeaseState.STARTING

    def test_a_waiter_for_two_devices_keeps_its_place_on_both(self, world: World) -> None:
        world.ask("first", 10, "gpu0")
        both = world.ask("both", 10, "gpu0", "gpu1")
        later = world.ask("later", 10, "gpu1")
        assert (both.state, later.state) == ("PENDING", "PENDING")

    def test_hopeless_waiter_is_refused_when_nothing_moves_any_more(self, world: World) -> None:
        world.ask("first", 40, "gpu0")
        world.ask("second", 40, "gpu0")
        world.foreign("gpu0", 30)
        world.observe()
        assert world.settle() == {}, "the first one's start may still fail and free its bytes"
        world.ledger.activate("first", world.now)
        refused = world.settle()
        assert "second asked for 40 B (40 bytes) of gpu0; 20 B (20 bytes) can be had" in refused["second"]
        assert list(world.ledger.entries) == ["first"]

    def test_is_not_hopeless_while_an_earlier_one_waits(self, world: World) -> None:
        world.ask("first", 10, "gpu1")
        world.ask("both", 10, "gpu0", "gpu1")
        world.ask("later", 40, "gpu0")
        world.foreign("gpu0", 60)
        world.observe()
        assert world.settle() == {}
        world.ledger.drain("both", world.now)
        assert "30 B (30 bytes) can be had" in world.settle()["later"]

    def test_a_waiter_whose_device_fails_is_refused(self, world: World) -> None:
        world.ask("first", 40, "gpu0")
        world.ask("second", 40, "gpu0")
        world.failing.add("gpu0")
        world.observe()
        assert world.settle() == {"second": "device gpu0 grants nothing: GPU is lost"}

    def test_a_waiter_that_dies_leaves_the_queue(self, world: World) -> None:
        world.ask("first", 40, "gpu0")
        world.kill(world.ask("second", 40, "gpu0").holder)
        assert world.observe() == [], "it never had bytes that could end"
        assert list(world.ledger.entries) == ["first"]

    def test_a_waiter_that_gives_up_leaves_the_queue_at_once(self, world: World) -> None:
        world.ask("first", 40, "gpu0")
        world.ask("second", 40, "gpu0")
        world.ledger.drain("second", world.now)
        assert list(world.ledger.entries) == ["first"]


class TestForeign:
    def test_within_the_headroom_costs_nothing(self, world: World) -> None:
        world.foreign("gpu0", HEADROOM)
        world.observe()
        assert world.ledger.free("gpu0") == LEASABLE

    def test_past_the_headroom_makes_free_negative_and_stops_grants(self, world: World) -> None:
        world.serve("a", LEASABLE, "gpu0")
        world.foreign("gpu0", 25)
        world.observe()
        assert world.ledger.free("gpu0") == -15
        assert refusal_of(world, 1, "gpu0").refusal.free == -15

    def test_memory_of_a_lease_is_not_foreign(self, world: World) -> None:
        lease = world.serve("a", 60, "gpu0")
        world.hold("gpu0", lease.holder.pid, 50)
        world.observe()
        assert world.ledger.foreign("gpu0") == 0
        assert lease.used == {"gpu0": 50}

    def test_memory_of_a_lease_on_another_device_is_foreign(self, world: World) -> None:
        lease = world.serve("a", 60, "gpu0")
        world.hold("gpu1", lease.holder.pid, 50)
        world.observe()
        assert world.ledger.foreign("gpu1") == 50
        device = views.devices(world.ledger, world.now, {lease.holder.pid: "python"}.__getitem__)[1]
        assert [(p.pid, p.name, p.bytes) for p in device.processes] == [(lease.holder.pid, "python", 50)]

    def test_memory_of_a_waiter_is_foreign_to_the_others(self, world: World) -> None:
        world.ask("first", 10, "gpu0")
        second = world.ask("second", 20, "gpu0")
        third = world.ask("third", 20, "gpu0")
        world.hold("gpu0", third.holder.pid, 75)
        world.observe()
        world.ledger.activate("first", world.now)
        world.settle()
        assert world.ledger.foreign("gpu0") == 75
        assert second.state is not LeaseState.STARTING

    def test_memory_of_one_process_with_two_leases_is_subtracted_once(self, world: World) -> None:
        holder = world.spawn()
        world.serve("a", 30, "gpu0", holder=holder)
        world.serve("b", 30, "gpu0", holder=holder)
        world.hold("gpu0", holder.pid, 20)
        world.foreign("gpu0", 20)
        world.observe()
        assert world.ledger.foreign("gpu0") == 20

    def test_overuse_is_charged(self, world: World) -> None:
        lease = world.serve("a", 30, "gpu0")
        world.hold("gpu0", lease.holder.pid, 45)
        world.observe()
        assert world.ledger.free("gpu0") == LEASABLE - 45
        assert refusal_of(world, 40, "gpu0").refusal.holders[0].startswith("45 B a ")

    def test_overuse_is_charged_while_another_device_of_the_lease_fails(self, world: World) -> None:
        lease = world.serve("a", 10, "gpu0", "gpu1")
        world.failing.add("gpu1")
        world.hold("gpu0", lease.holder.pid, 60)
        world.observe()
        assert world.ledger.free("gpu0") == LEASABLE - 60

    def test_is_listed_by_name_without_what_leases_hold(self, world: World) -> None:
        lease = world.serve("a", 30, "gpu0")
        world.hold("gpu0", lease.holder.pid, 30)
        world.foreign("gpu0", 5)
        world.observe()
        world.kill(lease.holder)
        world.observe()
        device = views.devices(world.ledger, world.now, {OUTSIDER: "Xorg"}.__getitem__)[0]
        assert [(p.pid, p.name, p.bytes) for p in device.processes] == [(OUTSIDER, "Xorg", 5)]
        assert (device.foreign, device.leased, device.free) == (5, 30, 50)
        assert device.allocatable == LEASABLE


class TestPatience:
    """Memory of a process that ends is foreign for a moment, beside the bytes of its lease."""

    def test_a_moment_without_room_is_waited_out(self, world: World) -> None:
        world.ledger.patience = 1.0
        world.foreign("gpu0", 60)
        world.request("a", 60, "gpu0")
        world.observe()
        assert world.settle() == {}
        world.foreign("gpu0", 0)
        world.observe()
        world.settle()
        assert world.ledger.entries["a"].state is LeaseState.STARTING

    def test_one_that_is_about_to_be_refused_takes_no_room_from_the_next(self, world: World) -> None:
        world.ledger.patience = 1.0
        world.serve("there", 40, "gpu0")
        world.request("too big", 60, "gpu0")
        world.observe()
        assert world.settle() == {}
        world.now += 0.9
        world.request("small", 30, "gpu0")
        world.observe()
        assert world.settle() == {}
        world.now += 0.1
        world.observe()
        assert list(world.settle()) == ["too big"]
        world.settle()
        assert world.ledger.entries["small"].state is LeaseState.STARTING

    def test_no_room_for_longer_is_a_refusal(self, world: World) -> None:
        world.ledger.patience = 1.0
        world.foreign("gpu0", 60)
        world.request("a", 60, "gpu0")
        world.observe()
        assert world.settle() == {}
        world.now += 1.0
        world.observe()
        assert "a asked for 60 B" in world.settle()["a"]


class TestTrust:
    def test_nothing_is_granted_before_the_first_sample(self) -> None:
        world = World("gpu0", sampled=False)
        world.hanging.add("gpu0")
        assert "gpu0 grants nothing: not sampled yet" in str(refusal_of(world, 1, "gpu0"))

    def test_a_stale_sample_grants_nothing(self, world: World) -> None:
        world.hanging.add("gpu0")
        world.now += STALE_AFTER
        first = world.request("on time", 1, "gpu0")
        assert world.settle() == {}
        world.ledger.drain(first.id, world.now)
        world.now += 0.5
        assert "the last sample is 3.5 s old (limit 3.0 s)" in str(refusal_of(world, 1, "gpu0"))

    def test_a_stale_sample_promotes_nobody(self, world: World) -> None:
        world.ask("first", 1, "gpu0")
        second = world.ask("second", 1, "gpu0")
        world.now += STALE_AFTER + 1
        world.ledger.activate("first", world.now)
        world.ledger.promote(world.now)
        assert second.state is LeaseState.PENDING

    def test_a_failing_device_grants_nothing_and_the_other_goes_on(self, world: World) -> None:
        world.failing.add("gpu0")
        world.observe()
        assert "gpu0 grants nothing: GPU is lost" in str(refusal_of(world, 1, "gpu0"))
        assert refusal_of(world, 1, "gpu0", "gpu1").refusal.device == "gpu0"
        assert world.ask("a", LEASABLE, "gpu1").state is LeaseState.STARTING
        assert [device.error for device in views.devices(world.ledger, world.now, str)] == ["GPU is lost", None]


class TestRelease:
    def test_draining_keeps_its_bytes_until_its_processes_are_gone(self, world: World) -> None:
        lease = world.serve("a", 60, "gpu0")
        world.ledger.drain("a", world.now)
        assert world.observe() == []
        assert (lease.state, world.ledger.free("gpu0")) == (LeaseState.DRAINING, 20)
        world.kill(lease.holder)
        assert world.rounds() == [lease]
        assert world.ledger.free("gpu0") == LEASABLE

    def test_bytes_of_the_dead_stay_charged_until_the_device_drops_them(self, world: World) -> None:
        lease = world.serve("a", 60, "gpu0")
        world.hold("gpu0", lease.holder.pid, 50)
        world.observe()
        world.kill(lease.holder)
        for _ in range(2):
            assert world.observe() == []
            assert world.ledger.free("gpu0") == 20
            assert world.ledger.foreign("gpu0") == 0
        world.hold("gpu0", lease.holder.pid, 0)
        assert world.rounds() == [lease]

    def test_a_surviving_child_keeps_an_orphaned_lease(self, world: World) -> None:
        lease = world.serve("a", 60, "gpu0")
        child = world.spawn(lease.holder.pid)
        world.observe()
        world.kill(lease.holder)
        assert world.observe() == []
        assert (lease.state, world.ledger.free("gpu0")) == (LeaseState.ORPHANED, 20)
        assert views.lease(world.ledger, lease).pids == (child.pid,)
        world.kill(child)
        assert world.rounds() == [lease]

    def test_a_reused_pid_is_not_the_holder(self, world: World) -> None:
        lease = world.serve("a", 60, "gpu0")
        world.kill(lease.holder)
        world.live[Process(lease.holder.pid, lease.holder.start + 1)] = 1
        assert world.rounds() == [lease]

    def test_a_draining_lease_whose_holder_dies_is_orphaned_until_its_child_ends(self, world: World) -> None:
        lease = world.serve("a", 60, "gpu0")
        world.spawn(lease.holder.pid)
        world.observe()
        world.ledger.drain("a", world.now)
        world.kill(lease.holder)
        world.now += 1
        world.observe()
        assert (lease.state, lease.since) == (LeaseState.ORPHANED, world.now)

    def test_a_failing_device_releases_nothing(self, world: World) -> None:
        """Also what died unseen: its bytes are looked for once the device can be read again."""
        lease = world.serve("a", 60, "gpu0")
        world.hold("gpu0", lease.holder.pid, 50)
        world.observe()
        world.failing.add("gpu0")
        world.kill(lease.holder)
        assert world.observe() == []
        world.failing.clear()
        assert world.observe() == []
        assert world.ledger.free("gpu0") == 20
        world.hold("gpu0", lease.holder.pid, 0)
        assert world.rounds() == [lease]

    def test_a_start_that_is_given_up_lets_the_next_one_start(self, world: World) -> None:
        world.ask("first", 30, "gpu0")
        second = world.ask("second", 30, "gpu0")
        world.ledger.drain("first", world.now)
        world.settle()
        assert second.state is LeaseState.STARTING

    def test_activate_and_drain_need_a_lease(self, world: World) -> None:
        with pytest.raises(KeyError):
            world.ledger.activate("nobody", world.now)
        with pytest.raises(KeyError):
            world.ledger.drain("nobody", world.now)

    def test_draining_what_leaves_already_changes_nothing(self, world: World) -> None:
        lease = world.serve("a", 60, "gpu0")
        world.spawn(lease.holder.pid)
        world.observe()
        world.kill(lease.holder)
        world.observe()
        orphaned_since = world.now
        world.now += 1
        world.ledger.drain("a", world.now)
        assert (lease.state, lease.since) == (LeaseState.ORPHANED, orphaned_since)

    def test_activate_does_not_bring_a_leaving_lease_back(self, world: World) -> None:
        world.serve("a", 30, "gpu0")
        world.ledger.drain("a", world.now)
        assert world.ledger.activate("a", world.now).state is LeaseState.DRAINING

    def test_a_process_that_is_off_the_list_for_one_round_keeps_its_lease(self, world: World) -> None:
        """Drivers do that between the exit of a process and the end of its memory."""
        lease = world.serve("a", 60, "gpu0")
        world.hold("gpu0", lease.holder.pid, 50)
        world.observe()
        world.kill(lease.holder)
        world.hold("gpu0", lease.holder.pid, 0)
        assert world.observe() == []
        world.hold("gpu0", lease.holder.pid, 50)
        assert world.rounds() == []
        world.hold("gpu0", lease.holder.pid, 0)
        assert world.rounds() == [lease]

    def test_a_device_that_hangs_releases_nothing(self, world: World) -> None:
        lease = world.serve("a", 60, "gpu0", "gpu1")
        world.kill(lease.holder)
        world.hanging.add("gpu1")
        assert world.rounds() == []
        assert world.ledger.free("gpu0") == 20
        world.hanging.clear()
        assert world.rounds() == [lease]

    def test_nobody_waits_longer_for_what_does_not_leave(self, world: World) -> None:
        """A process in the kernel's D state, or a holder that drains and then lives on."""
        world.serve("stuck", 60, "gpu0")
        world.ledger.drain("stuck", world.now)
        waiter = world.ask("waiter", 60, "gpu0")
        world.now += LEAVING_PATIENCE
        world.observe()
        assert "60 B stuck (DRAINING" in world.settle()[waiter.id]

    def test_what_is_taken_in_while_processes_are_listed_is_not_taken_for_dead(self, world: World) -> None:
        among = list(world.ledger.entries)
        entry = world.request("new", 10, "gpu0")
        world.ledger.observe({}, lambda _: set(), among, world.now)
        assert world.ledger.entries == {"new": entry}


class TestRequestId:
    def test_can_not_stand_for_two_leases(self, world: World) -> None:
        first = world.serve("a", 30, "gpu0")
        with pytest.raises(RefusedError, match="request a already stands for 30 bytes of gpu0 for a") as caught:
            world.request("a", 31, "gpu0", holder=first.holder)
        assert caught.value.refusal.reason is Reason.CONFLICT

    def test_of_another_process_is_not_given_away(self, world: World) -> None:
        first = world.serve("a", 30, "gpu0")
        with pytest.raises(RefusedError, match=f"request a belongs to process {first.holder.pid}, not to"):
            world.request("a", 30, "gpu0")

    def test_of_a_lease_that_leaves_is_used_up(self, world: World) -> None:
        first = world.serve("a", 30, "gpu0")
        world.ledger.drain("a", world.now)
        with pytest.raises(RefusedError, match="the lease of request a is DRAINING"):
            world.request("a", 30, "gpu0", holder=first.holder)

    def test_nobody_waits_for_any_more_leaves_nothing(self, world: World) -> None:
        waiter = world.ask("a", 30, "gpu0")
        assert waiter.state is LeaseState.STARTING
        world.ledger.give_up("a", world.now)
        assert world.ledger.entries == {}

    def test_that_was_answered_once_is_not_undone_by_a_second_caller_that_hangs_up(self, world: World) -> None:
        lease = world.ask("a", 30, "gpu0")
        lease.told = True
        world.ledger.give_up("a", world.now)
        assert world.ledger.entries == {"a": lease}


def test_the_queue_is_bounded(world: World) -> None:
    for number in range(QUEUE_LIMIT):
        world.request(f"waiter {number}", 1, "gpu0")
    with pytest.raises(RefusedError, match=f"{QUEUE_LIMIT} requests wait already") as caught:
        world.request("one more", 1, "gpu0")
    assert caught.value.refusal.reason is Reason.QUEUE_FULL
    assert "one more" not in world.ledger.entries


def test_a_waiters_own_memory_does_not_count_against_it(world: World) -> None:
    """On `host` a replica has imported torch before it asks."""
    holder = world.spawn()
    world.hold("gpu0", holder.pid, 30)
    assert world.ask("a", LEASABLE, "gpu0", holder=holder).state is LeaseState.STARTING


def test_a_waiter_that_holds_more_than_it_asks_for_is_judged_by_what_it_holds(world: World) -> None:
    holder = world.spawn()
    world.hold("gpu0", holder.pid, LEASABLE + 1)
    with pytest.raises(RefusedError, match=r"a asked for 1 B \(1 bytes\) of gpu0 and holds 81 B already; 80 B"):
        world.ask("a", 1, "gpu0", holder=holder)


class TestSleep:
    @pytest.fixture
    def sleeper(self, world: World) -> str:
        """A lease of 60 that sleeps and holds 5."""
        lease = world.serve("sleeper", 60, "gpu0")
        world.hold("gpu0", lease.holder.pid, 5)
        world.observe()
        world.ledger.sleep(lease.id, world.now)
        return lease.id

    def test_keeps_its_measured_residual(self, world: World, sleeper: str) -> None:
        assert world.ledger.free("gpu0") == LEASABLE - 5

    def test_that_grows_is_charged(self, world: World, sleeper: str) -> None:
        world.hold("gpu0", world.ledger.entries[sleeper].holder.pid, 9)
        world.observe()
        assert world.ledger.free("gpu0") == LEASABLE - 9

    def test_wakes_into_its_whole_budget(self, world: World, sleeper: str) -> None:
        entry = world.ledger.wake(sleeper)
        world.settle()
        assert (entry.state, world.ledger.free("gpu0")) == (LeaseState.STARTING, 20)
        world.ledger.activate(sleeper, world.now)
        assert (entry.state, world.ledger.free("gpu0")) == (LeaseState.ACTIVE, 20)

    def test_waits_for_its_turn_to_wake(self, world: World, sleeper: str) -> None:
        world.ask("other", 20, "gpu0")
        entry = world.ledger.wake(sleeper)
        assert world.settle() == {}
        assert (entry.state, views.lease(world.ledger, entry).place) == (LeaseState.SLEEPING, 1)
        world.ledger.activate("other", world.now)
        world.settle()
        assert entry.state is LeaseState.STARTING

    def test_sleeps_on_when_its_bytes_are_taken(self, world: World, sleeper: str) -> None:
        world.serve("other", 40, "gpu0")
        entry = world.ledger.wake(sleeper)
        assert "sleeper asked for 60 B (60 bytes) of gpu0; 40 B (40 bytes) can be had" in world.settle()[sleeper]
        assert (entry.state, world.ledger.queue, world.ledger.free("gpu0")) == (LeaseState.SLEEPING, [], 35)

    def test_sleeps_on_when_nobody_waits_for_the_answer(self, world: World, sleeper: str) -> None:
        entry = world.ledger.wake(sleeper)
        world.settle()
        world.ledger.give_up(sleeper, world.now)
        assert (entry.state, world.ledger.free("gpu0")) == (LeaseState.SLEEPING, LEASABLE - 5)

    def test_drained_takes_no_more_than_asleep(self, world: World, sleeper: str) -> None:
        world.serve("other", LEASABLE - 5, "gpu0")
        world.ledger.drain(sleeper, world.now)
        assert world.ledger.free("gpu0") == 0

    def test_that_dies_while_it_wakes_takes_all_of_its_budget(self, world: World, sleeper: str) -> None:
        entry = world.ledger.wake(sleeper)
        world.settle()
        child = world.spawn(entry.holder.pid)
        world.observe()
        world.kill(entry.holder)
        world.observe()
        assert (entry.state, world.ledger.free("gpu0")) == (LeaseState.ORPHANED, 20)
        world.kill(child)
        world.hold("gpu0", entry.holder.pid, 0)
        assert world.rounds() == [entry]

    def test_only_an_active_lease_can_sleep(self, world: World) -> None:
        world.ask("a", 10, "gpu0")
        with pytest.raises(RefusedError, match="lease a is STARTING; only ACTIVE ones can sleep"):
            world.ledger.sleep("a", world.now)

    def test_what_leaves_does_not_wake(self, world: World, sleeper: str) -> None:
        world.ledger.drain(sleeper, world.now)
        with pytest.raises(RefusedError, match="DRAINING"):
            world.ledger.wake(sleeper)


class TestClaim:
    def claim(self, lease_id: str, size: int, *devices: str, state: LeaseState = LeaseState.ACTIVE) -> Claim:
        return Claim.model_validate(
            {"request_id": lease_id, "model": lease_id, "bytes": size, "devices": devices, "state": state}
        )

    def test_brings_a_lost_lease_back_even_where_it_does_not_fit(self, world: World) -> None:
        world.serve("other", 60, "gpu0")
        entry = world.ledger.claim(self.claim("a", 60, "gpu0"), world.spawn(), world.now)
        assert (entry.state, world.ledger.free("gpu0")) == (LeaseState.ACTIVE, -40)

    def test_of_a_lease_that_is_known_changes_nothing(self, world: World) -> None:
        lease = world.serve("a", 60, "gpu0")
        again = self.claim("a", 60, "gpu0", state=LeaseState.STARTING)
        assert world.ledger.claim(again, lease.holder, world.now) is lease
        assert lease.state is LeaseState.ACTIVE

    def test_nothing_is_granted_while_claims_may_come(self, world: World) -> None:
        world.ledger.held_until = world.now + 10
        waiter = world.ask("a", 60, "gpu0")
        assert waiter.state is LeaseState.PENDING
        world.now += 10
        world.observe()
        world.settle()
        assert waiter.state is LeaseState.STARTING


class TestOverhead:
    def serve(self, world: World, lease_id: str, held: int) -> None:
        """A lease of 40 of which 25 were planned."""
        holder = world.spawn()
        request = LeaseRequest(
            request_id=lease_id, model="m", bytes=40, devices=("gpu0",), planned=25, fingerprint="print"
        )
        world.ledger.request(request, holder, world.now)
        world.observe()
        world.settle()
        world.hold("gpu0", holder.pid, held)
        world.observe()
        world.ledger.activate(lease_id, world.now)

    def test_is_the_most_that_an_active_engine_held_beyond_its_plan(self, world: World) -> None:
        self.serve(world, "a", 32)
        assert world.ledger.overheads == {"print": 7}
        self.serve(world, "b", 28)
        assert world.ledger.overheads == {"print": 7}
        world.hold("gpu0", world.ledger.entries["b"].holder.pid, 35)
        world.observe()
        assert world.ledger.overheads == {"print": 10}

    def test_says_nothing_before_the_engine_is_active(self, world: World) -> None:
        world.ask("a", 40, "gpu0")
        world.observe()
        assert world.ledger.overheads == {}

    def test_is_not_learned_from_ram(self, world: World) -> None:
        world.ledger.devices["gpu0"] = replace(world.ledger.devices["gpu0"], kind="host")
        self.serve(world, "a", 32)
        assert world.ledger.overheads == {}


class TestLostDevice:
    def test_grants_nothing_and_says_why(self, world: World) -> None:
        world.ledger.devices["gpu0"] = replace(world.ledger.devices["gpu0"], lost="it fell off the bus")
        assert "gpu0 grants nothing: it fell off the bus" in str(refusal_of(world, 1, "gpu0"))

    def test_does_not_keep_the_lease_of_a_dead_process(self, world: World) -> None:
        lease = world.serve("a", 30, "gpu0", "gpu1")
        world.ledger.devices["gpu0"] = replace(world.ledger.devices["gpu0"], lost="it fell off the bus")
        world.hanging.add("gpu0")
        world.kill(lease.holder)
        assert world.rounds() == [lease]
