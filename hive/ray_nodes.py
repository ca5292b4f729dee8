"""What each Ray worker has registered, in what Ray's dashboard says of its nodes. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from hive.placement import Worker
from hive.ray_api import Json
from serve_app.worker import CPU_RESOURCE

VRAM = re.compile(r"vram_mib(?:_x([0-9]+))?")  # see serve_app.worker.resource_name


@dataclass(frozen=True)
class RayNode:
    """A Ray node with VRAM."""

    address: str  # its pod's IP
    worker: Worker


def workers(nodes: Iterable[Json]) -> list[RayNode]:
    """Those of Ray's nodes that live and bring VRAM."""
    found = []
    for node in nodes:
        has = node["resources_total"]
        for name, mib in has.items():
            if node["state"] == "ALIVE" and (said := VRAM.fullmatch(name)):
                worker = Worker(int(mib), int(said[1] or 1), has.get(CPU_RESOURCE, 0.0), has.get("memory", 0.0))
                found.append(RayNode(node["node_ip"], worker))
    return found
