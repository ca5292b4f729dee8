"""The ledger against a short model of the truth: requests, starts, sleep, exits, memory, agents that crash, files that
are lost, in any order."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.unit.vram_agent.world import CLEAR_AFTER, HEADROOM, OUTSIDER, RESERVED, SAFETY, STALE_AFTER, TOTAL, World
from vram_agent.api import Claim, LeaseState
from vram_agent.ledger import LEAVING, LIVE, Ledger
from vram_agent.records import Entry, Process, RefusedError
from vram_agent.store import SAVED, VOLATILE, Saved

DEVICES = ("gpu0", "gpu1")
CLAIM_WINDOW = 10.0
NOBODY = "nobody"
device_names = st.sampled_from(DEVICES)
sizes = st.sampled_from([1, 10, 20, 30, 40, 60, 80])  # few, so that sums often meet a limit exactly


class LedgerMachine(RuleBasedStateMachine):
    """The model: `family` says which lease a process works for, from its birth on and past its death; `owned` what a
    granted lease may take of each of its devices; `lost` are leases that nobody can know of any more."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(*DEVICES)
        self.family: dict[int, str] = {}
        self.holders: dict[str, Process] = {NOBODY: Process(0, 0)}
        self.owned: dict[str, dict[str, int]] = {}
        self.lost: set[str] = set()

    @property
    def ledger(self) -> Ledger:
        return self.world.ledger

    # -- what happens ----------------------------------------------------------------------------------------------

    @rule(size=sizes, devices=st.sampled_from([("gpu0",), ("gpu1",), DEVICES]))
    def request(self, size: int, devices: tuple[str, ...]) -> None:
        holder = self.world.spawn()
        lease_id = f"lease-{holder.pid}"
        self.family[holder.pid] = lease_id
        self.holders[lease_id] = holder
        self.world.request(lease_id, size, *devices, holder=holder)
        self.observe()

    @rule()
    def engines_have_started(self) -> None:
        for lease_id in list(self.ledger.entries):
            self.ledger.activate(lease_id, self.world.now)
        self.settle_all()

    @precondition(lambda self: self.in_state(LeaseState.ACTIVE))
    @rule(data=st.data(), keeps=st.sampled_from([0, 5, 10]))
    def fall_asleep(self, data: st.DataObject, keeps: int) -> None:
        entry = data.draw(st.sampled_from(self.in_state(LeaseState.ACTIVE)))
        for device in entry.devices:
            for pid in self.world.held[device]:
                if self.belongs(pid, entry):
                    self.hold(device, pid, keeps)
        self.observe()
        if entry.state is LeaseState.ACTIVE:
            self.ledger.sleep(entry.id, self.world.now)
            self.owned[entry.id] = {device: entry.used.get(device, entry.bytes) for device in entry.devices}
            self.settle_all()

    @precondition(lambda self: self.in_state(LeaseState.SLEEPING))
    @rule(data=st.data())
    def ask_to_wake(self, data: st.DataObject) -> None:
        self.ledger.wake(data.draw(st.sampled_from(self.in_state(LeaseState.SLEEPING))).id)
        self.settle_all()

    @precondition(lambda self: self.ledger.entries)
    @rule(data=st.data())
    def drain(self, data: st.DataObject) -> None:
        self.ledger.drain(data.draw(st.sampled_from(sorted(self.ledger.entries))), self.world.now)
        self.settle_all()

    @precondition(lambda self: self.ledger.queue)
    @rule(data=st.data())
    def hang_up(self, data: st.DataObject) -> None:
        self.ledger.give_up(data.draw(st.sampled_from(self.ledger.queue)), self.world.now)
        self.settle_all()

    @precondition(lambda self: self.world.live)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        """The agent looks before the parent can die: a child that it never saw with its parent is nobody's."""
        parent = data.draw(st.sampled_from(list(self.world.live)))
        self.family[self.world.spawn(parent.pid).pid] = self.family[parent.pid]
        self.observe()

    @precondition(lambda self: self.world.live)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        self.world.kill(data.draw(st.sampled_from(list(self.world.live))))

    @precondition(lambda self: self.world.live)
    @rule(data=st.data(), device=device_names, size=sizes)
    def allocate(self, data: st.DataObject, device: str, size: int) -> None:
        self.hold(device, data.draw(st.sampled_from(list(self.world.live))).pid, size)
        self.observe()

    @rule(device=device_names, size=sizes)
    def foreign_changes(self, device: str, size: int) -> None:
        self.hold(device, OUTSIDER, size)
        self.observe()

    @rule(device=device_names)
    def driver_frees_the_bytes_of_the_dead(self, device: str) -> None:
        alive = {process.pid for process in self.world.live} | {OUTSIDER}
        self.world.held[device] = {pid: size for pid, size in self.world.held[device].items() if pid in alive}

    @precondition(lambda self: not self.world.failing)
    @rule(device=device_names)
    def a_device_fails(self, device: str) -> None:
        self.world.failing.add(device)

    @precondition(lambda self: not self.world.hanging)
    @rule(device=device_names)
    def a_device_hangs(self, device: str) -> None:
        self.world.hanging.add(device)

    @rule()
    def devices_recover(self) -> None:
        self.world.failing.clear()
        self.world.hanging.clear()

    @rule()
    def sampling_stalls(self) -> None:
        self.world.now += STALE_AFTER + 1
        self.settle_all()
        self.observe()

    @rule()
    def the_agent_is_killed_and_starts_again(self) -> None:
        """Every change was saved before anybody heard of it, so the file is what the ledger was."""
        text = SAVED.dump_json(Saved(list(self.ledger.entries.values()), {}, 0), exclude=VOLATILE)
        self.world.new_ledger()
        for entry in SAVED.validate_json(text).entries:
            if entry.state is not LeaseState.PENDING:
                self.ledger.entries[entry.id] = entry
        self.observe()

    @rule()
    def the_file_is_torn(self) -> None:
        """The live holders of leases claim them. What died, and what nothing alive leads to, is nobody's now."""
        before = self.ledger.entries
        for pid, lease_id in self.family.items():
            if pid not in {process.pid for process in self.world.descendants({self.holders[lease_id]})}:
                self.family[pid] = NOBODY
        self.world.new_ledger()
        self.ledger.held_until = self.world.now + CLAIM_WINDOW
        self.observe()
        for entry in before.values():
            if entry.state is LeaseState.PENDING:
                continue
            if entry.state in LEAVING or entry.holder not in self.world.live:
                self.lost.add(entry.id)
                continue
            self.ledger.claim(
                Claim.model_validate(
                    {
                        "request_id": entry.id,
                        "model": entry.model,
                        "bytes": entry.bytes,
                        "devices": entry.devices,
                        "state": entry.state,
                    }
                ),
                entry.holder,
                self.world.now,
            )
            self.owned[entry.id] = dict.fromkeys(entry.devices, entry.bytes)
        self.observe()
        self.world.now += CLAIM_WINDOW
        self.observe()

    @rule()
    def time_passes(self) -> None:
        self.world.now += CLEAR_AFTER
        self.observe()

    @rule()
    def observe(self) -> None:
        for entry in self.world.observe():
            shown = [self.ledger.samples[device] for device in entry.devices]
            assert not any(sample.error for sample in shown), "released on a sample that says nothing"
            assert not any(self.belongs(pid, entry) for sample in shown for pid in sample.by_pid), "released too early"
        self.settle_all()

    # -- what must hold --------------------------------------------------------------------------------------------

    def settle_all(self) -> None:
        while self.settle():
            pass
        self.check_that_nobody_waits_for_nothing()

    def settle(self) -> bool:
        """Promote, and look at every promotion; true when something changed."""
        promoted = self.ledger.promote(self.world.now)
        for entry in promoted:
            self.owned[entry.id] = dict.fromkeys(entry.devices, entry.bytes)
        for entry in promoted:
            for device in entry.devices:
                self.check_the_sum(device)
        return bool(self.ledger.hopeless(self.world.now) or promoted)

    def check_the_sum(self, device: str) -> None:
        sample = self.ledger.samples[device]
        assert sample.error is None
        assert self.world.now - sample.taken <= STALE_AFTER
        live = [e for e in self.ledger.entries.values() if e.state in LIVE and device in e.devices]
        actual = {e.id: sum(size for pid, size in sample.by_pid.items() if self.belongs(pid, e)) for e in live}
        foreign = sum(size for pid, size in sample.by_pid.items() if self.family.get(pid) not in actual)
        charged = sum(max(self.owned[entry.id][device], actual[entry.id]) for entry in live)
        assert charged + max(foreign, HEADROOM) <= TOTAL - RESERVED - SAFETY

    def check_that_nobody_waits_for_nothing(self) -> None:
        earlier: set[str] = set()
        for entry in [self.ledger.entries[lease_id] for lease_id in self.ledger.queue]:
            moving = LEAVING | {LeaseState.STARTING}
            awaited = {d for e in self.ledger.entries.values() if e.state in moving for d in e.devices}
            unseen = not entry.observed or self.world.now < self.ledger.held_until
            assert unseen or (awaited | earlier) & set(entry.devices)
            earlier |= set(entry.devices)

    @invariant()
    def one_start_a_device(self) -> None:
        starting = [d for e in self.ledger.entries.values() if e.state is LeaseState.STARTING for d in e.devices]
        assert len(starting) == len(set(starting))

    @invariant()
    def no_live_process_loses_its_lease(self) -> None:
        for process in self.world.live:
            lease_id = self.family[process.pid]
            assert lease_id not in self.owned or lease_id in self.ledger.entries or lease_id in self.lost

    @invariant()
    def the_queue_holds_those_who_wait(self) -> None:
        waiting = {e.id for e in self.ledger.entries.values() if e.state is LeaseState.PENDING}
        assert waiting <= set(self.ledger.queue)
        assert len(set(self.ledger.queue)) == len(self.ledger.queue)
        rest = {self.ledger.entries[lease_id].state for lease_id in set(self.ledger.queue) - waiting}
        assert rest <= {LeaseState.SLEEPING}

    def teardown(self) -> None:
        """When all processes and their bytes are gone, so is every lease."""
        self.world.live.clear()
        self.devices_recover()
        for device in DEVICES:
            self.driver_frees_the_bytes_of_the_dead(device)
        self.world.rounds()
        assert self.ledger.entries == {}

    # -- inside ----------------------------------------------------------------------------------------------------

    def hold(self, device: str, pid: int, size: int) -> None:
        others = sum(self.world.held[device].values()) - self.world.held[device].get(pid, 0)
        self.world.hold(device, pid, min(size, TOTAL - RESERVED - others))

    def belongs(self, pid: int, entry: Entry) -> bool:
        return self.family.get(pid) == entry.id

    def in_state(self, state: LeaseState) -> list[Entry]:
        return [entry for entry in self.ledger.entries.values() if entry.state is state]


def test_requests_that_conflict_change_nothing() -> None:
    """What the machine never does: it asks with a new process and a new id each time."""
    world = World(*DEVICES)
    lease = world.serve("a", 30, "gpu0")
    before = SAVED.dump_json(Saved(list(world.ledger.entries.values()), {}, 0))
    for holder, size in ((lease.holder, 31), (world.spawn(), 30)):
        try:
            world.request("a", size, "gpu0", holder=holder)
        except RefusedError:
            assert SAVED.dump_json(Saved(list(world.ledger.entries.values()), {}, 0)) == before
        else:
            raise AssertionError("the same id stood for two leases")


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=300, stateful_step_count=60)
