"""`python -m release.check`, what `helm test` runs: a question to every model, and whether what runs was asked for.

Settings: HIVE_NAMESPACE, HIVE_RAYSERVICE, HIVE_GATEWAY (its address), HIVE_MODELS (JSON list), HIVE_AGENT_PORT,
HIVE_AGENT_LABELS, and HIVE_KEYS_DIR where keys are asked for.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from gateway import keys
from release.asking import ask
from release.changes import listed, outdated, running, templates, told, worker_groups
from release.kubernetes import Kubernetes

Json = dict[str, Any]


def models(gateway: str, names: list[str], by: list[str]) -> Iterator[tuple[bool, str]]:
    """One short question to each model, with the first key that may ask it."""
    for name in names:
        for key in by or [""]:
            answer = ask(gateway, name, key)
            if answer.is_success:
                break
        why = "" if answer.is_success else f": {answer.text[:500]}"
        yield answer.is_success, f"{name} answers with {answer.status_code}{why}"


def vram(states: dict[str, Json], names: list[str]) -> Iterator[tuple[bool, str]]:
    """Every agent can grant, nothing is over its device, and every model holds a lease that serves."""
    for node, state in states.items():
        for device in state["devices"]:
            it = device["error"] or f"{device['free'] >> 20} MiB free"
            yield not device["error"], f"{node}: {device['name']} {device['id']}: {it}"
    leases = [lease for state in states.values() for lease in state["leases"]]
    for name in names:
        active = [lease for lease in leases if lease["model"] == name and lease["state"] == "ACTIVE"]
        yield bool(active), f"{name} holds {len(active)} active leases"


def drift(service: Json, cluster: Json, pods: list[Json]) -> Iterator[tuple[bool, str]]:
    """What runs is what was asked for."""
    old = outdated(pods, templates(service))
    yield (
        not old,
        f"pods of an older template: {listed(old)}" if old else "all pods are of the template that is asked for",
    )
    workers = worker_groups(cluster, service)
    yield not workers, f"asked for, and not so: {told(workers)}" if workers else "workers are those asked for"


def run() -> Iterator[tuple[bool, str]]:
    kubernetes = Kubernetes.inside()
    namespace, name = os.environ["HIVE_NAMESPACE"], os.environ["HIVE_RAYSERVICE"]
    names: list[str] = json.loads(os.environ["HIVE_MODELS"])
    folder = os.environ.get("HIVE_KEYS_DIR")
    clients = keys.read(Path(folder)) if folder else {}
    yield from models(os.environ["HIVE_GATEWAY"], names, [own[0] for own in clients.values()])
    agents = kubernetes.pods(namespace, os.environ["HIVE_AGENT_LABELS"])
    yield bool(agents), f"{len(agents)} VRAM agents"
    states = {}
    for pod in agents:
        address = f"http://{pod['status']['podIP']}:{os.environ['HIVE_AGENT_PORT']}/v1/state"
        states[pod["spec"]["nodeName"]] = httpx.get(address, timeout=10).raise_for_status().json()
    yield from vram(states, names)
    service = kubernetes.service(namespace, name)
    cluster = running(service)
    if cluster is None:
        yield False, "no cluster runs"
        return
    pods = kubernetes.pods(namespace, f"ray.io/cluster={cluster}")
    yield from drift(service, kubernetes.cluster(namespace, cluster), pods)


def main() -> None:
    failed = False
    try:
        for ok, line in run():
            print("ok    " if ok else "FAILED", line, flush=True)
            failed |= not ok
    except (httpx.HTTPError, KeyError) as error:
        print(f"FAILED {error!r}")
        failed = True
    sys.exit(failed)


if __name__ == "__main__":
    main()
