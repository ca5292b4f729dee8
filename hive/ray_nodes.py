"""What each Ray worker has registered, through Ray's dashboard."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from hive.errors import HiveError
from hive.placement import Worker
from hive.serve_api import Json
from serve_app.worker import CPU_RESOURCE

VRAM = re.compile(r"vram_mib(?:_x([0-9]+))?")  # see serve_app.worker.resource_name


@dataclass(frozen=True)
class RayNode:
    """A Ray node with VRAM."""

    address: str  # its pod's IP
    worker: Worker


def workers(url: str, headers: Mapping[str, str]) -> list[RayNode]:
    """The workers that live and bring VRAM.

    Raises:
        HiveError: the dashboard does not answer.
    """
    try:
        answer = httpx.get(f"{url}/api/v0/nodes", params={"detail": "true"}, headers=dict(headers), timeout=30)
        return read(answer.raise_for_status().json())
    except httpx.HTTPError as error:
        raise HiveError(f"Ray's dashboard does not say which workers there are ({error!r})", "hive status") from error


def read(answer: Json) -> list[RayNode]:
    """The same from the dashboard's answer."""
    found = []
    for node in answer["data"]["result"]["result"]:
        has = node["resources_total"]
        for name, mib in has.items():
            if node["state"] == "ALIVE" and (said := VRAM.fullmatch(name)):
                worker = Worker(int(mib), int(said[1] or 1), has.get(CPU_RESOURCE, 0.0), has.get("memory", 0.0))
                found.append(RayNode(node["node_ip"], worker))
    return found
