"""What a new serve config does to what runs. Pure: the rules are Ray Serve's (its version.py and deploy_utils.py)."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Json = dict[str, Any]


class Effect(StrEnum):
    """What happens to a model's replicas."""

    ADD = "starts"
    REMOVE = "stops"
    RESTART = "restarts"
    IN_PLACE = "changes in place"


@dataclass(frozen=True)
class Change:
    """One model that an edit touches."""

    model: str
    effect: Effect
    details: str

    def __str__(self) -> str:
        return f"{self.model} {self.effect}" + (f": {self.details}" if self.details else "")


def compare(old: Json, new: Json) -> list[Change]:
    """Changes from one serve config to another, by model name. Models that are not named keep every process."""
    before = {app["name"]: app for app in old.get("applications", [])}
    after = {app["name"]: app for app in new["applications"]}
    changes = []
    for name in sorted(before.keys() | after.keys()):
        if name not in before:
            changes.append(Change(name, Effect.ADD, ""))
        elif name not in after:
            changes.append(Change(name, Effect.REMOVE, ""))
        else:
            was, becomes = _flat(before[name]), _flat(after[name])
            paths = [path for path in sorted(was.keys() | becomes.keys()) if was.get(path) != becomes.get(path)]
            if paths:
                effect = Effect.RESTART if any(_restarts(path) for path in paths) else Effect.IN_PLACE
                details = ", ".join(f"{_short(path)} {was.get(path)} -> {becomes.get(path)}" for path in paths)
                changes.append(Change(name, effect, details))
    return changes


def ended(changes: Iterable[Change]) -> set[str]:
    """Models of which no replica that runs now goes on."""
    return {change.model for change in changes if change.effect is not Effect.IN_PLACE}


def _restarts(path: str) -> bool:
    """Serve restarts an application's replicas for its code version and for what places its actors."""
    return path.startswith(("args.", "import_path", "runtime_env", "ray_actor_options.", "max_replicas_per_node"))


def _short(path: str) -> str:
    return path.removeprefix("args.").removeprefix("ray_actor_options.")


def _flat(app: Json) -> Json:
    """An application's leaves by dotted path; its one deployment's keys stand beside its own."""
    merged = {key: value for key, value in app.items() if key != "deployments"} | app["deployments"][0]
    leaves: Json = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else key, inner)
        elif value is not None:
            leaves[prefix] = value

    walk("", merged)
    return leaves
