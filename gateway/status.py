"""What the page shows, from what Ray Serve, the VRAM agents and Envoy's counters say. Pure.

No keys, no clients, no prompts: anybody may read it. Sizes are bytes, times are seconds since 1970.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel

from gateway.applications import Application, Json
from vram_agent.api import Device, Enforcement, EventKind, LeaseState, State

COMPLETION_TOKENS = "envoy_hive_completion_tokens"
EVENTS_SHOWN = 50
NOT_DEPLOYED = "NOT_STARTED"  # Serve's word; it has not heard of such a model yet


class ReplicaStatus(BaseModel):
    """One engine."""

    id: str
    state: str
    node: str


class ModelStatus(BaseModel):
    """One model."""

    name: str
    status: str
    reason: str
    wanted: int
    replicas: list[ReplicaStatus]
    chats: bool
    """Whether it can be asked now: it serves, and it generates text."""
    tokens_per_second: float | None
    """Of answers that ended lately; None: not known yet."""


class Holder(BaseModel):
    """What one lease takes of one device."""

    id: str
    model: str
    state: LeaseState
    charged: int
    used: int
    place: int | None


class DeviceStatus(BaseModel):
    """One GPU, or the RAM of a machine. Fields as in `vram_agent.api.Device`."""

    id: str
    kind: str
    name: str
    enforcement: Enforcement
    total: int
    reserved: int
    safety: int
    headroom: int
    foreign: int
    free: int
    error: str | None
    holders: list[Holder]


class NodeStatus(BaseModel):
    """One agent. What does not answer has no devices, and an error."""

    name: str
    error: str | None
    devices: list[DeviceStatus]


class EventStatus(BaseModel):
    """One line of an agent's recent history."""

    time: float
    node: str
    kind: EventKind
    text: str


class Status(BaseModel):
    """Everything that the page shows."""

    time: float
    asks_for_keys: bool
    serve_answers: bool
    """False: models are as they were known last."""
    models: list[ModelStatus]
    nodes: list[NodeStatus]
    events: list[EventStatus]
    """The latest, newest first."""


@dataclass(frozen=True)
class Silent:
    """An agent that does not answer, and why."""

    name: str
    error: str


@dataclass(frozen=True)
class Sample:
    """Tokens that each gateway has counted, by model, at one time. A gateway that did not answer is not in it."""

    time: float
    tokens: Mapping[str, Mapping[str, float]]


def models(
    names: Iterable[str],
    found: Iterable[Application],
    cards: Mapping[str, Iterable[Json]],
    rates: Mapping[str, float] | None,
) -> list[ModelStatus]:
    """Models that the values have, and those that Serve still has, by name.

    Args:
        names: of the models that are on.
        cards: what replicas say of each model that serves.
        rates: tokens in a second, by model; None: not known yet.
    """
    known = {application.name: application for application in found}
    missing = {name: Application(name=name, status=NOT_DEPLOYED, reason="", wanted=0, replicas=[]) for name in names}
    return [
        ModelStatus(
            name=name,
            status=application.status,
            reason="" if application.status == "RUNNING" else application.reason,
            wanted=application.wanted,
            replicas=[ReplicaStatus(id=one.id, state=one.state, node=one.node) for one in application.replicas],
            chats=any("generate" in card.get("tasks", ()) for card in cards.get(name, ())),
            tokens_per_second=None if rates is None else rates.get(name, 0.0),
        )
        for name, application in sorted((missing | known).items())
    ]


def nodes(said: Iterable[State | Silent]) -> list[NodeStatus]:
    """Agents by the names of their nodes; where one takes another's place, the one that answers."""
    found = [
        NodeStatus(name=one.name, error=one.error, devices=[])
        if isinstance(one, Silent)
        else NodeStatus(name=one.node, error=None, devices=[_device(device, one) for device in one.devices])
        for one in said
    ]
    by_name = {node.name: node for node in sorted(found, key=lambda node: node.error is None)}
    return [node for _, node in sorted(by_name.items())]


def _device(device: Device, state: State) -> DeviceStatus:
    holders = [
        Holder(
            id=lease.id,
            model=lease.model,
            state=lease.state,
            charged=lease.charged[device.id],
            used=lease.used[device.id],
            place=lease.place,
        )
        for lease in sorted(state.leases, key=lambda lease: (lease.model, lease.since, lease.id))
        if device.id in lease.devices
    ]
    return DeviceStatus.model_validate(device.model_dump() | {"holders": holders})


def events(said: Iterable[State | Silent]) -> list[EventStatus]:
    """The latest of all agents, newest first."""
    found = [
        EventStatus(time=event.time, node=state.node, kind=event.kind, text=event.text)
        for state in said
        if isinstance(state, State)
        for event in state.events
    ]
    return sorted(found, key=lambda event: -event.time)[:EVENTS_SHOWN]


def tokens(metrics: str) -> dict[str, float]:
    """Completion tokens by model, of all clients, in what one Envoy shows to Prometheus."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples if family.name == COMPLETION_TOKENS else ():
            model = sample.labels["model"]
            found[model] = found.get(model, 0.0) + sample.value
    return found


def tokens_per_second(samples: Sequence[Sample]) -> dict[str, float] | None:
    """By model, from the first sample to the last; None while there are not two.

    A gateway counts from when it was first seen. One that started anew counts from zero, and one that was silent in
    between is compared with what it said last.
    """
    seconds = samples[-1].time - samples[0].time if samples else 0.0
    if seconds <= 0:
        return None
    grown: dict[str, float] = {}
    before: dict[str, Mapping[str, float]] = {}
    for sample in samples:
        for gateway, counted in sample.tokens.items():
            known = before.get(gateway, counted)
            for model, now in counted.items():
                last = known.get(model, 0.0)
                grown[model] = grown.get(model, 0.0) + (now - last if now >= last else now)
            before[gateway] = counted
    return {model: count / seconds for model, count in grown.items()}
