"""What each Ray worker has registered, and what runs on it, in what Ray's dashboard says. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from hive.changes import compare, ended
from hive.placement import Replica, Standing, Worker
from hive.ray_api import Json
from hive.serve_api import deployed_config
from serve_app.worker import CPU_RESOURCE

VRAM = re.compile(r"vram_mib(?:_x([0-9]+))?")  # see serve_app.worker.resource_name


@dataclass(frozen=True)
class RayNode:
    """A Ray node with VRAM."""

    id: str
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
                found.append(RayNode(node["node_id"], node["node_ip"], worker))
    return found


def standing(nodes: Iterable[Json], details: Json, serve_config: Json) -> Standing:
    """What is there for a new serve config, in what Serve says: replicas of the models that it does not restart.

    Serve has replicas of one model in the order in which they began to run, which is not that of their start_time_s
    (deployment_state.py, ReplicaStateContainer); of that of the models, the latter is all that is known.
    """
    found = workers(nodes)
    numbers = {node.id: number for number, node in enumerate(found)}
    end = ended(compare(deployed_config(details), serve_config))
    running = []
    for name, app in details["applications"].items():
        replicas = [replica for deployment in app["deployments"].values() for replica in deployment["replicas"]]
        began = min((replica["start_time_s"] for replica in replicas), default=0)
        running += [
            (began, Replica(name, numbers[replica["node_id"]]))
            for replica in replicas
            if name not in end and replica["state"] != "STOPPING" and replica["node_id"] in numbers
        ]
    running.sort(key=lambda one: one[0])
    return Standing([node.worker for node in found], [replica for _, replica in running])
