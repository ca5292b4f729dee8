"""The ledger against a short model of the truth: requests, starts, exits and memory in any order."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.unit.vram_agent.world import HEADROOM, OUTSIDER, RESERVED, SAFETY, STALE_AFTER, TOTAL, World
from vram_agent.api import LeaseState
from vram_agent.ledger import LEAVING, LIVE, Entry, RefusedError

DEVICES = ("gpu0", "gpu1")
device_names = st.sampled_from(DEVICES)
sizes = st.sampled_from([1, 10, 20, 30, 40, 60, 80])  # few, so that sums often meet a limit exactly


class LedgerMachine(RuleBasedStateMachine):
    """`family` is the model: which lease a process works for, from its birth on and past its death."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(*DEVICES)
        self.ledger = self.world.ledger
        self.family: dict[int, str] = {}
        self.granted: set[str] = set()

    # -- what happens ----------------------------------------------------------------------------------------------

    @rule(size=sizes, devices=st.sampled_from([("gpu0",), ("gpu1",), DEVICES]))
    def request(self, size: int, devices: tuple[str, ...]) -> None:
        holder = self.world.spawn()
        lease_id = f"lease-{holder.pid}"
        self.family[holder.pid] = lease_id
        try:
            self.world.request(lease_id, size, *devices, holder=holder)
        except RefusedError:
            self.world.kill(holder)
        self.settle()

    @rule()
    def engines_have_started(self) -> None:
        for lease_id in self.ledger.entries:
            self.ledger.activate(lease_id, self.world.now)
        self.settle()

    @precondition(lambda self: self.ledger.entries)
    @rule(data=st.data())
    def drain(self, data: st.DataObject) -> None:
        self.ledger.drain(data.draw(st.sampled_from(sorted(self.ledger.entries))), self.world.now)
        self.settle()

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

    @rule()
    def devices_recover(self) -> None:
        self.world.failing.clear()

    @rule()
    def sampling_stalls(self) -> None:
        self.world.now += STALE_AFTER + 1
        self.settle()
        self.observe()

    @rule()
    def observe(self) -> None:
        for entry in self.world.observe():
            shown = [self.ledger.samples[device] for device in entry.devices]
            assert not any(sample.error for sample in shown), "released on a sample that says nothing"
            assert not any(self.belongs(pid, entry) for sample in shown for pid in sample.by_pid), "released too early"
        while self.settle():
            pass
        self.check_that_nobody_waits_for_nothing()

    # -- what must hold --------------------------------------------------------------------------------------------

    def settle(self) -> bool:
        """Promote, and look at every promotion; true when something changed."""
        before = {e.id for e in self.ledger.entries.values() if e.state is LeaseState.STARTING} | self.granted
        refused = self.world.settle()
        promoted = [e for e in self.ledger.entries.values() if e.state is LeaseState.STARTING and e.id not in before]
        for entry in promoted:
            for device in entry.devices:
                self.check_the_sum(device)
        self.granted |= {entry.id for entry in promoted}
        return bool(refused or promoted)

    def check_the_sum(self, device: str) -> None:
        sample = self.ledger.samples[device]
        assert sample.error is None
        assert self.world.now - sample.taken <= STALE_AFTER
        live = [e for e in self.ledger.entries.values() if e.state in LIVE and device in e.devices]
        actual = {e.id: sum(size for pid, size in sample.by_pid.items() if self.belongs(pid, e)) for e in live}
        foreign = sum(size for pid, size in sample.by_pid.items() if self.family.get(pid) not in actual)
        charged = sum(max(entry.bytes, actual[entry.id]) for entry in live)
        assert charged + max(foreign, HEADROOM) <= TOTAL - RESERVED - SAFETY

    def check_that_nobody_waits_for_nothing(self) -> None:
        earlier: set[str] = set()
        for entry in self.ledger.entries.values():
            if entry.state is LeaseState.PENDING:
                moving = LEAVING | {LeaseState.STARTING}
                awaited = {d for e in self.ledger.entries.values() if e.state in moving for d in e.devices}
                assert (awaited | earlier) & set(entry.devices)
                earlier |= set(entry.devices)

    @invariant()
    def one_start_a_device(self) -> None:
        starting = [d for e in self.ledger.entries.values() if e.state is LeaseState.STARTING for d in e.devices]
        assert len(starting) == len(set(starting))

    @invariant()
    def no_live_process_loses_its_lease(self) -> None:
        for process in self.world.live:
            lease_id = self.family[process.pid]
            assert lease_id not in self.granted or lease_id in self.ledger.entries

    def teardown(self) -> None:
        """When all processes and their bytes are gone, so is every lease."""
        self.world.live.clear()
        self.world.failing.clear()
        for device in DEVICES:
            self.driver_frees_the_bytes_of_the_dead(device)
        self.observe()
        assert self.ledger.entries == {}

    # -- inside ----------------------------------------------------------------------------------------------------

    def hold(self, device: str, pid: int, size: int) -> None:
        others = sum(self.world.held[device].values()) - self.world.held[device].get(pid, 0)
        self.world.hold(device, pid, min(size, TOTAL - RESERVED - others))

    def belongs(self, pid: int, entry: Entry) -> bool:
        return self.family.get(pid) == entry.id


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=200, stateful_step_count=80, deadline=None)
