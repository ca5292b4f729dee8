"""A Helm release against what runs: what its objects need, and where reality went another way."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from hive.changes import compare
from hive.doctor.finding import Finding, failed, ok, warning
from hive.rendering import Loader
from hive.serve_api import Application
from release.changes import listed, outdated, templates, told, worker_groups

Json = dict[str, Any]


class Reference(NamedTuple):
    """A Secret that an object of the release names."""

    name: str
    key: str | None  # None: all of it


def status(info: Json) -> Iterator[Finding]:
    """What Helm itself says of the last revision."""
    state, revision = info["status"], info["revision"]
    if state == "deployed":
        yield ok(f"Helm: revision {revision} is deployed")
    else:
        fix = f"helm rollback {info['name']}, or helm upgrade again" if revision > 1 else "helm upgrade --install again"
        yield failed(f"Helm: revision {revision} is {state}", fix)


def secrets(objects: Sequence[Json]) -> set[Reference]:
    """Every Secret that must be there for these objects."""
    found: set[Reference] = set()
    made = {one["metadata"]["name"] for one in objects if one["kind"] == "Secret"}

    def walk(value: Any) -> None:
        if isinstance(value, list):
            for item in value:
                walk(item)
        elif isinstance(value, dict):
            for key, inner in value.items():
                if isinstance(inner, dict) and not inner.get("optional"):
                    if key == "secretRef":
                        found.add(Reference(inner["name"], None))
                    elif key == "secretKeyRef":
                        found.add(Reference(inner["name"], inner["key"]))
                    elif key == "secret" and "secretName" in inner:
                        found.add(Reference(inner["secretName"], None))
                elif key == "imagePullSecrets":
                    found.update(Reference(one["name"], None) for one in inner)
                walk(inner)

    walk(objects)
    return {one for one in found if one.name not in made}


def secrets_there(wanted: set[Reference], found: Mapping[str, Sequence[str]], namespace: str) -> Iterator[Finding]:
    """They exist and hold something.

    Args:
        found: names of the entries of each of those that are there.
    """
    for name, key in sorted(wanted, key=str):
        make = f"kubectl -n {namespace} create secret generic {name} --from-literal={key or 'NAME'}=VALUE"
        if name not in found:
            yield failed(f"there is no Secret {name}", make)
        elif key is not None and key not in found[name]:
            yield failed(f"Secret {name} has no entry {key}", f"kubectl -n {namespace} edit secret {name}")
        elif not found[name]:
            yield failed(f"Secret {name} is empty", f"{make} --dry-run=client -o yaml | kubectl apply -f -")
        else:
            yield ok(f"Secret {name} has {key or f'entries: {len(found[name])}'}")


def drift(service: Json | None, asked: Json, cluster: Json | None, pods: Sequence[Json]) -> Iterator[Finding]:
    """The RayService is the release's, and KubeRay's cluster is the RayService's.

    Args:
        service: the RayService; None: there is none.
        asked: the same from the release's manifest.
        cluster: the RayCluster that runs; None: none does.
        pods: of that cluster.
    """
    if service is None:
        yield failed("the release's RayService is gone", "helm upgrade with the same values makes it again")
        return
    edits = compare(config(service), config(asked))
    if edits:
        names = ", ".join(f"{one.model} ({one.details or one.effect})" for one in edits)
        yield failed(f"the RayService was edited beside Helm: {names}", "helm upgrade with the values that you want")
    else:
        yield ok("the RayService has the models of the release")
    if cluster is None:
        yield failed("no Ray cluster runs", "see the conditions of the RayService, and KubeRay's operator's log")
        return
    if old := outdated(list(pods), templates(service)):
        fix = "helm upgrade --set rollout.podTemplate=Recreate, which ends all models and starts them anew"
        yield warning(f"these pods run an older template: {listed(old)}", fix)
    else:
        yield ok("all Ray pods are of the template that is asked for")
    if patch := worker_groups(cluster, service):
        yield failed(
            f"workers are not those asked for: {told(patch)}", "helm upgrade with the same values applies them"
        )
    else:
        yield ok("worker groups have the counts that are asked for")


def applied(asked: Json, runs: Json) -> Iterator[Finding]:
    """Ray Serve has the config of the RayService. Both as `serveConfigV2` has it."""
    if differences := compare(runs, asked):
        names = ", ".join(f"{one.model} {one.effect}" for one in differences)
        yield failed(f"Ray Serve has not taken over the config: {names}", "see the log of KubeRay's operator")
    else:
        yield ok("Ray Serve has the config that is asked for")


def conditions(service: Json) -> Iterator[Finding]:
    """What KubeRay says of the RayService."""
    name = service["metadata"]["name"]
    for one in service.get("status", {}).get("conditions", []):
        if one["type"] == "Ready" and one["status"] != "True":
            fix = f"kubectl -n {service['metadata']['namespace']} describe rayservice {name}"
            yield warning(f"KubeRay: RayService {name} is not Ready: {one['reason']}: {one.get('message', '')}", fix)
        elif one["type"] == "UpgradeInProgress" and one["status"] == "True":
            yield warning(
                f"KubeRay: RayService {name} is being upgraded: {one.get('message', '')}", "wait until it is done"
            )


def models(found: Sequence[Application], asked: Sequence[str]) -> Iterator[Finding]:
    """Each model serves with all its replicas."""
    by_name = {app.name: app for app in found}
    for name in asked:
        app = by_name.get(name)
        if app is None:
            yield failed(
                f"{name} is asked for, and Ray Serve has none", "hive doctor again in a minute, then hive logs"
            )
        elif app.ready:
            yield ok(f"{name} serves, {app.wanted} of {app.wanted} replicas run")
        else:
            running = sum(replica.state == "RUNNING" for replica in app.replicas)
            what, _, fix = app.reason.partition("FIX: ")
            said = f"{name} is {app.status}, {running} of {app.wanted} replicas run"
            said += f": {what.strip().splitlines()[-1]}" if what.strip() else ""
            yield (failed if app.failed or not running else warning)(said, fix.strip() or f"hive logs {name}")


def config(service: Json) -> Json:
    """What a RayService gives to Ray Serve."""
    found: Json = yaml.load(service["spec"]["serveConfigV2"], Loader)  # noqa: S506 (a SafeLoader)
    return found
