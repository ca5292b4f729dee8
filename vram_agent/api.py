"""What the agent says and hears, as pydantic models. All sizes are bytes, all times are seconds since the epoch."""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MIB = 1024 * 1024
GIB = 1024 * MIB


class Wire(BaseModel):
    """Immutable; refuses keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LeaseState(StrEnum):
    """Where a lease stands. All but PENDING own bytes."""

    PENDING = "PENDING"  # waits for bytes of a leaving lease, or for another engine's start on its device
    STARTING = "STARTING"  # its engine loads or wakes; one at a time on a device
    ACTIVE = "ACTIVE"  # measured and serving
    SLEEPING = "SLEEPING"  # its engine gave memory back and keeps a measured residual; it waits for its bytes to wake
    DRAINING = "DRAINING"  # given back by its holder; ends when its processes and their bytes are gone
    ORPHANED = "ORPHANED"  # the holder died and left processes or memory


class LeaseRequest(Wire):
    """Asks for `bytes` on each of `devices`, for the process that sends it."""

    request_id: str = Field(
        min_length=1, max_length=128, description="Chosen by the holder; the same id gets the same lease again."
    )
    model: str = Field(min_length=1, max_length=128, description="Name of the model, as in values.yaml.")
    bytes: int = Field(gt=0, description="The budget: bytes of each device.")
    devices: tuple[str, ...] = Field(min_length=1, description="Device ids, all of this agent.")
    planned: int = Field(default=0, ge=0, description="What is known of `bytes` before the start: weights + KV cache.")
    fingerprint: str | None = Field(
        default=None,
        max_length=128,
        description="Stands for all that decides the overhead beside `planned`: engine, arguments, kind of device.",
    )


class Claim(LeaseRequest):
    """A holder tells a new agent what the agent before it had granted. Needed only when the ledger's file is lost."""

    state: Literal[LeaseState.STARTING, LeaseState.ACTIVE, LeaseState.SLEEPING]


class Lease(Wire):
    """One grant, as the agent sees it now."""

    id: str
    model: str
    state: LeaseState
    bytes: int = Field(description="Reserved bytes on each device; a sleeping lease takes less, see `charged`.")
    devices: tuple[str, ...]
    pid: int = Field(description="The holder's PID, in the agent's PID namespace.")
    pids: tuple[int, ...] = Field(description="Every live process of the lease, the holder included.")
    used: dict[str, int] = Field(description="Bytes that those processes hold now, by device.")
    charged: dict[str, int] = Field(description="Bytes that the lease takes from each device's sum.")
    place: int | None = Field(description="Place in the queue, from 1; null when it does not wait.")
    since: float = Field(description="When it came into this state.")


class Enforcement(StrEnum):
    """Who stops an engine that wants more than its lease."""

    DRIVER = "driver"  # the driver's limit for the cgroup of the engine's container (NVML, R615 and later)
    TORCH = "torch"  # PyTorch's allocator, by per_process_memory_fraction; all but the CUDA context passes through it
    NONE = "none"  # nobody; the agent measures, and grants nothing while a lease holds too much


class Foreign(Wire):
    """A process that holds device memory without a lease."""

    pid: int
    name: str
    bytes: int


class Device(Wire):
    """One GPU, or the RAM of this machine (`host`)."""

    id: str = Field(description="GPU UUID, or `host`.")
    kind: str = Field(description="`nvml` or `host`.")
    name: str
    enforcement: Enforcement
    total: int
    reserved: int = Field(description="Bytes that the driver or the system keeps for itself.")
    safety: int = Field(description="Bytes that the agent never grants.")
    headroom: int = Field(description="Bytes kept for memory without a lease, even while less of it is seen.")
    foreign: int = Field(description="Bytes seen in use without a lease.")
    leased: int = Field(description="Sum of the live leases' bytes.")
    free: int = Field(description="Bytes that a new lease can get now; negative when the device is over.")
    processes: tuple[Foreign, ...] = Field(default=(), description="Who holds the foreign bytes, where that is known.")
    sampled: float
    error: str | None = Field(default=None, description="Why nothing is granted on this device, if so.")

    @property
    def allocatable(self) -> int:
        """Bytes that leases can have in all: what stays when nothing is leased."""
        return self.total - self.reserved - self.safety - max(self.foreign, self.headroom)

    @property
    def over(self) -> bool:
        """Memory without a lease, or a lease beyond its budget, took what was promised: nothing is granted."""
        return self.free < 0


class EventKind(StrEnum):
    """What an operator should hear of."""

    REFUSED = "refused"  # a lease was not granted
    ORPHAN = "orphan"  # a process outlived the holder of its lease
    OVER = "over"  # more is promised or held on a device than there is
    FOREIGN = "foreign"  # memory without a lease passed the headroom
    DEVICE = "device"  # a device grants nothing, and why
    LEDGER = "ledger"  # the ledger's file was lost, could not be read, or can't be written
    CLEARED = "cleared"  # one of the states above has ended


class Event(Wire):
    """One line of the agent's recent history."""

    time: float
    kind: EventKind
    text: str
    device: str | None = None
    model: str | None = None


class State(Wire):
    """Everything that the agent knows."""

    node: str
    devices: tuple[Device, ...]
    leases: tuple[Lease, ...]
    events: tuple[Event, ...] = Field(description="The latest ones, oldest first.")
    overheads: dict[str, int] = Field(
        description="By fingerprint: the most bytes of a device that an engine held beyond its `planned`."
    )


class Reason(StrEnum):
    """Kinds of refusals, for metrics."""

    NO_ROOM = "no_room"
    DEVICE = "device"  # unknown, unreadable, stale or in a mode that can't be leased
    QUEUE_FULL = "queue_full"
    CONFLICT = "conflict"  # this request id already means something else
    INVALID = "invalid"  # no such lease, not its holder, or not a request at all


class Refusal(Wire):
    """Why a lease was not granted, with the figures."""

    reason: Reason
    error: str = Field(description="One sentence: what was asked, what is free, who holds the rest.")
    device: str | None = None
    asked: int = 0
    free: int = 0
    holders: tuple[str, ...] = Field(default=(), description="What holds the device's other bytes, largest first.")


def human(size: int) -> str:
    """Bytes for people, in binary units: 24.00 GiB, 512 MiB, 0 B. Exact figures stay in the JSON."""
    if abs(size) >= GIB:
        return f"{size / GIB:.2f} GiB"
    if abs(size) >= MIB:
        return f"{size / MIB:.0f} MiB"
    return f"{size} B"
