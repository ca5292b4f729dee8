"""Larger models are placed first.

Ray Serve packs what it gets at one time, largest first, but it gets a model when its application is built, and how long
that takes is chance: small models that come first take the room that a large one needs, and it waits for ever where
`hive plan` found a place for all. So an application waits here until those of larger models are built.
"""

import logging
import time
from collections.abc import Mapping
from typing import Any

from ray.serve.context import _get_global_client  # what `serve.status()` asks; that one leaves out the configs

from serve_app.worker import CPU_RESOURCE

log = logging.getLogger("ray.serve")
LOOK_SECONDS = 0.5  # each look asks the controller for all applications
# For the others' builds, which import vLLM. Then it goes on: a chance of a worse place is better than a model less.
PATIENCE_SECONDS = 180
BUILDING = ("NOT_STARTED", "DEPLOYING")


def wait_for_larger(model: str) -> None:
    """Return when no larger model is left to be placed before this one; called where its application is built."""
    client = _get_global_client()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while names := larger(model, client.get_serve_details()["applications"]):
        if time.monotonic() > deadline:
            log.warning("%s is placed before larger models that are still built: %s", model, ", ".join(names))
            return
        time.sleep(LOOK_SECONDS)


def larger(model: str, applications: Mapping[str, Any]) -> list[str]:
    """Models that go before this one and have no deployment yet, by Serve's details of its applications."""
    own = applications.get(model)
    if own is None or own["deployed_app_config"] is None:  # it is being taken away
        return []
    return [
        name
        for name, app in applications.items()
        if app["status"] in BUILDING and not app["deployments"] and _rank(name, app) < _rank(model, own)
    ]


def _rank(name: str, app: Mapping[str, Any]) -> tuple[float, float, float, str]:
    """In Serve's own order: VRAM, CPUs, host RAM of a replica, and the name between equals."""
    config = app["deployed_app_config"]
    actor = config["deployments"][0]["ray_actor_options"]
    return -config["args"]["vramMib"], -actor["resources"][CPU_RESOURCE], -(actor["memory"] or 0), name
