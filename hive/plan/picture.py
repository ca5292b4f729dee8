"""What all views of a plan say alike: cells of the models' table, and the segments of the devices' bars. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from hive.plan.planning import Device, Model, Plan
from vram_agent.api import MIB, human

COLUMNS = ("model", "replicas", "vram", "weights", "KV cache", "overhead", "KV tokens", "requests")
UNKNOWN = "?"


class Part(StrEnum):
    """What a segment of a bar is."""

    REPLICA = "replica"
    RUNS = "runs"  # a replica that goes on as it is
    KEPT = "kept"  # by the driver, for safety and for others
    FREE = "free"


@dataclass(frozen=True)
class Segment:
    """A stretch of a device."""

    part: Part
    label: str
    bytes: int


def segments(device: Device) -> list[Segment]:
    """A device from left to right; they add up to its total, unless more is promised than there is."""
    held = [Segment(Part.RUNS if one.runs else Part.REPLICA, one.model, one.bytes) for one in device.replicas]
    rest = [Segment(Part.KEPT, "kept", device.kept), Segment(Part.FREE, "free", max(0, device.free))]
    return [segment for segment in (*held, *rest) if segment.bytes]


def cells(sizes: Sequence[int], width: int) -> list[int]:
    """`width` cells shared out in proportion to these sizes, with no error that adds up."""
    total, done, edge = sum(sizes), 0, 0
    found = []
    for size in sizes:
        done += size
        next_edge = round(done * width / total) if total else 0
        found.append(next_edge - edge)
        edge = next_edge
    return found


def row(model: Model) -> tuple[str, ...]:
    """A model's cells, by COLUMNS."""
    replicas = f"{model.replicas}{'+' if model.autoscaled else ''}{'' if model.devices == 1 else f' x {model.devices}'}"
    known = model.kv_tokens is not None
    return (
        model.name,
        replicas,
        _vram(model),
        _bytes(model.weights, "" if model.weights_exact else "≤ "),
        _bytes(model.kv_cache, ""),
        _bytes(model.overhead, "" if model.overhead_measured else "≈ "),
        f"{model.kv_tokens}" if known else UNKNOWN,
        f"{model.requests} x {model.max_model_len}" if known else UNKNOWN,
    )


def notes(found: Plan) -> list[str]:
    """What the words in the table mean, where they stand there."""
    said = []
    if any(model.requests is not None for model in found.models):
        said.append("requests: of the full length in tokens, at once; shorter ones are more.")
    if any(model.autoscaled for model in found.models):
        said.append("+: the fewest that the autoscaler keeps; it adds more where there is room.")
    if any(model.devices > 1 for model in found.models):
        said.append("replicas 1 x 2: one, on two GPUs; every other figure is of each GPU.")
    if any(model.weights is not None and not model.weights_exact for model in found.models):
        said.append("≤: an upper bound; weights and KV cache without it are vLLM's to the byte.")
    if any(model.overhead is not None and not model.overhead_measured for model in found.models):
        said.append("≈: reckoned; an agent measures what is beside weights and KV cache once the engine ran.")
    if any(model.kv_exact is False for model in found.models):
        said.append("?: the architecture is not known here, so tokens and requests are not either.")
    if any(model.vram_mib and not model.vram_said for model in found.models):
        said.append("*: not in the values; --write puts it there.")
    return said


def free(device: Device) -> str:
    """What is left of a device; exact bytes are in the JSON."""
    return human(device.free) if device.group else f"{human(device.free)} (no worker takes it)"


def unplaced(found: Plan) -> str:
    """Replicas without a place, or nothing."""
    return ", ".join(f"{one.replicas} x {one.model}" for one in found.unplaced)


def verdict(found: Plan) -> str:
    """One line over it all."""
    if not found.fits:
        return "Does not fit." if found.misfits else "Not all of it can be told."
    return (
        "Fits." if found.devices else "Every budget holds its model. Which GPUs? --gpus 24GiB,24GiB, or --from-cluster."
    )


def _vram(model: Model) -> str:
    if model.vram_mib is None:
        return UNKNOWN
    return human(model.vram_mib * MIB) + ("" if model.vram_said else " *")


def _bytes(size: int | None, prefix: str) -> str:
    return UNKNOWN if size is None else prefix + human(size)
