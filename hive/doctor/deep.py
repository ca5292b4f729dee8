"""`hive doctor --deep`: what only a try can tell. Asks Ray, lets every node compute, asks every model."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import httpx

from hive import ray_nodes
from hive.doctor import ray_cluster
from hive.doctor.finding import Finding, Group, checked, failed, ok
from hive.doctor.jobs import JobsApi
from hive.errors import HiveError
from hive.ray_nodes import RayNode
from hive.target import Target
from release.asking import ask

Hosts = Callable[[Sequence[RayNode]], Mapping[str, str]]


def groups(target: Target, ray_version: Callable[[], str], hosts: Hosts) -> Iterator[Group]:
    """Each group as soon as it is known.

    Args:
        ray_version: what the values say that Ray is.
        hosts: the host of each of these Ray nodes by its address, as VRAM agents are called.
    """
    try:
        dashboard = target.dashboard()
    except HiveError as error:
        yield Group(name="Ray", findings=[failed(error.what, error.fix)])
        return
    api = JobsApi(*dashboard)

    def nodes() -> Iterator[Finding]:
        found = ray_nodes.workers(api.nodes())
        return ray_cluster.nodes(found, hosts(found), target.states())

    yield checked(
        "Ray", lambda: ray_cluster.version(api.version(), ray_version()), lambda: ray_cluster.jobs(api.jobs())
    )
    yield checked("VRAM that Ray offers", nodes)
    yield checked("CPUs", lambda: ray_cluster.stress(api.stress()))
    yield checked("Answers", lambda: answers(target))


def answers(target: Target) -> Iterator[Finding]:
    """One from each model, through the gateway."""
    gateway, key = target.gateway_url(), target.api_key() or ""
    for app in target.applications():
        began = time.monotonic()
        try:
            answer = ask(gateway, app.name, key)
        except httpx.HTTPError as error:
            yield failed(f"{app.name}: the gateway does not answer: {error!r}", "see the gateway's log")
        else:
            yield answered(app.name, answer.status_code, answer.text, time.monotonic() - began)


def answered(model: str, status: int, text: str, seconds: float) -> Finding:
    """What an HTTP answer means."""
    if status < 400:
        return ok(f"{model} answered in {seconds:.1f} s")
    return failed(f"{model} answers with {status}: {text[:500]}", f"hive logs {model}")
