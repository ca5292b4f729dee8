"""What each Ray worker has registered, through Ray's dashboard."""

import re
from collections.abc import Mapping

import httpx

from hive.errors import HiveError
from hive.placement import Worker

VRAM = re.compile(r"vram_mib(?:_x([0-9]+))?")  # as the chart and serve_app/worker.py name it


def workers(url: str, headers: Mapping[str, str]) -> list[Worker]:
    """The workers that live and bring VRAM.

    Raises:
        HiveError: the dashboard does not answer.
    """
    try:
        answer = httpx.get(f"{url}/api/v0/nodes", params={"detail": "true"}, headers=dict(headers), timeout=30)
        nodes = answer.raise_for_status().json()["data"]["result"]["result"]
    except httpx.HTTPError as error:
        raise HiveError(f"Ray's dashboard does not say which workers there are ({error!r})", "hive status") from error
    found = []
    for node in nodes:
        has = node["resources_total"]
        for name, mib in has.items():
            if node["state"] == "ALIVE" and (said := VRAM.fullmatch(name)):
                found.append(Worker(int(mib), int(said[1] or 1), has.get("CPU", 0.0), has.get("memory", 0.0)))
    return found
