"""The models of the values beside what runs and what the gateway lists."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from hive.errors import HiveError
from hive.serve_api import Application
from hive.target import Json

OFF = "OFF"


@dataclass(frozen=True)
class Listed:
    """One model. `listed`: whether the gateway lists it, so that clients may ask it."""

    name: str
    state: str  # Serve's word, or OFF
    listed: bool
    running: int  # replicas
    wanted: int
    vram: str | None  # of a replica on each of its devices, as written
    max_model_len: int | None  # tokens
    source: str
    aliases: tuple[str, ...]
    adapters: tuple[str, ...]


def cards(gateway_url: str, key: str | None) -> dict[str, Json]:
    """What /v1/models says, by name.

    Raises:
        HiveError: the gateway does not answer, or refuses.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx.get(f"{gateway_url}/v1/models", headers=headers, timeout=30)
    except httpx.HTTPError as error:
        raise HiveError(
            f"the gateway at {gateway_url} does not answer ({error!r})", "look at it: hive status"
        ) from error
    if answer.is_error:
        raise HiveError(f"the gateway answers {answer.status_code}: {answer.text[:500]}", "see the message")
    return {card["id"]: card for card in answer.json()["data"]}


def join(values: Json, applications: Sequence[Application], listed: Mapping[str, Json]) -> list[Listed]:
    """One row for each entry of the values, and for what runs without one. Pure."""
    entries: dict[str, Any] = values.get("models") or {}
    running = {application.name: application for application in applications}
    found = []
    for name in sorted(entries.keys() | running.keys()):
        entry, application, card = entries.get(name) or {}, running.get(name), listed.get(name, {})
        found.append(
            Listed(
                name=name,
                state=application.status if application else OFF,
                listed=name in listed,
                running=sum(one.state == "RUNNING" for one in application.replicas) if application else 0,
                wanted=application.wanted if application else 0,
                vram=entry.get("vram"),
                max_model_len=card.get("max_model_len", entry.get("maxModelLen")),
                source=entry.get("source", ""),
                aliases=tuple(entry.get("aliases") or ()),
                adapters=tuple(entry.get("adapters") or ()),
            )
        )
    return found
