"""What the agent says and hears, as pydantic models. All sizes are bytes, all times are seconds since the epoch."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

MIB = 1024 * 1024
GIB = 1024 * MIB


class Wire(BaseModel):
    """Immutable; refuses keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LeaseState(StrEnum):
    """Where a lease stands. All but PENDING own their bytes."""

    PENDING = "PENDING"  # waits for bytes of a leaving lease, or for another engine's start on its device
    STARTING = "STARTING"  # its engine loads; one at a time on a device
    ACTIVE = "ACTIVE"  # measured and serving
    DRAINING = "DRAINING"  # given back by its holder; ends when its processes and their bytes are gone
    ORPHANED = "ORPHANED"  # the holder died and left processes that still hold memory


class LeaseRequest(Wire):
    """Asks for `bytes` on each of `devices`, for the process that sends it."""

    request_id: str = Field(min_length=1, description="Chosen by the holder; the same id gets the same lease again.")
    model: str = Field(min_length=1, description="Name of the model, as in values.yaml.")
    bytes: int = Field(gt=0, description="The budget: bytes of each device.")
    devices: tuple[str, ...] = Field(min_length=1, description="Device ids, all of this agent.")


class Lease(Wire):
    """One grant, as the agent sees it now."""

    id: str
    model: str
    state: LeaseState
    bytes: int = Field(description="Reserved bytes on each device.")
    devices: tuple[str, ...]
    pid: int = Field(description="The holder's PID, in the agent's PID namespace.")
    pids: tuple[int, ...] = Field(description="Every live process of the lease, the holder included.")
    used: dict[str, int] = Field(description="Bytes that those processes hold now, by device.")
    since: float


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


class State(Wire):
    """Everything that the agent knows."""

    node: str
    devices: tuple[Device, ...]
    leases: tuple[Lease, ...]


class Refusal(Wire):
    """Why a lease was not granted, with the figures."""

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
