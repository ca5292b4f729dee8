"""The ledger as the API shows it. `epoch` is added to every time, to make seconds since 1970 of the caller's clock."""

from collections.abc import Callable

from vram_agent.api import Device, EventKind, Foreign, Lease, human
from vram_agent.ledger import LIVE, Ledger
from vram_agent.records import Entry


def devices(ledger: Ledger, now: float, name: Callable[[int], str], epoch: float = 0.0) -> tuple[Device, ...]:
    """Every device. `name` gives the name of a process by its PID."""
    views = []
    for device in ledger.devices.values():
        sample = ledger.sample(device.id)
        ours = ledger.ours(device.id)
        views.append(
            Device(
                id=device.id,
                kind=device.kind,
                name=device.name,
                enforcement=device.enforcement,
                total=sample.total,
                reserved=sample.reserved,
                safety=ledger.safety,
                headroom=ledger.headroom,
                foreign=ledger.foreign(device.id),
                leased=ledger.charged(device.id),
                free=ledger.free(device.id),
                processes=tuple(
                    Foreign(pid=pid, name=name(pid), bytes=size)
                    for pid, size in sorted(sample.by_pid.items(), key=lambda pair: -pair[1])
                    if pid not in ours
                ),
                sampled=sample.taken + epoch,
                error=ledger.trouble(device.id, now),
            )
        )
    return tuple(views)


def lease(ledger: Ledger, entry: Entry, epoch: float = 0.0) -> Lease:
    """One lease."""
    return Lease(
        id=entry.id,
        model=entry.model,
        state=entry.state,
        bytes=entry.bytes,
        devices=entry.devices,
        pid=entry.holder.pid,
        pids=tuple(sorted(process.pid for process in entry.processes)),
        used={device: entry.used.get(device, 0) for device in entry.devices},
        charged={device: entry.charge(device) if entry.state in LIVE else 0 for device in entry.devices},
        place=ledger.queue.index(entry.id) + 1 if entry.id in ledger.queue else None,
        since=entry.since + epoch,
    )


def alarms(device: Device) -> dict[EventKind, str]:
    """What is wrong with a device, in words."""
    if device.error:
        return {EventKind.DEVICE: f"{device.id} grants nothing: {device.error}"}
    found = {}
    if device.kind != "host" and device.foreign > device.headroom:  # RAM always has other users
        names = ", ".join(f"{p.name} (pid {p.pid}) {human(p.bytes)}" for p in device.processes) or "not listed"
        found[EventKind.FOREIGN] = (
            f"{device.id}: {human(device.foreign)} are in use without a lease, {human(device.headroom)} were kept "
            f"for that: {names}"
        )
    if device.over:
        found[EventKind.OVER] = (
            f"{device.id} is over by {human(-device.free)}: leases take {human(device.leased)}, memory without a lease "
            f"{human(device.foreign)}; it grants nothing"
        )
    return found


def fields(entry: Entry) -> dict[str, object]:
    """One lease in a line of the log."""
    return {
        "lease": entry.id,
        "model": entry.model,
        "state": entry.state,
        "bytes": entry.bytes,
        "devices": entry.devices,
        "pid": entry.holder.pid,
        "used": entry.used,
    }
