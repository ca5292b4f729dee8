"""The local Hive, or the machine where one shall run: which check gets what."""

from collections.abc import Iterator, Sequence
from functools import cache

from hive import rendering
from hive.changes import compare
from hive.doctor import deep, gpus, machine, release
from hive.doctor.finding import Finding, Group, checked, failed, ok, warning
from hive.errors import HiveErrors
from hive.local import checks, gateway
from hive.local.run import Folders, load
from hive.local.target import LocalHive
from hive.ray_nodes import RayNode
from hive.rendering import Json, Rendered


def groups(where: Folders, *, tries: bool) -> Iterator[Group]:
    """Each group as soon as it is known.

    Args:
        tries: `--deep`.
    """
    run = load(where)
    yield checked("Machine", lambda: machine.fit(machine.read(where), runs=run is not None))
    if run is None:
        yield checked(
            "Hive",
            lambda: [ok("no Hive runs here, so only this machine was checked")],
            lambda: machine.ports(machine.owners(rendering.load_chart().values["ports"])),
            lambda: machine.folders(where.models),
        )
        return
    hive = LocalHive(run, where)
    rendered = cache(lambda: rendering.render_values(hive.values()))  # what it raises is each check's to tell
    yield checked(
        "Hive",
        lambda: machine.parts(run.processes, where.logs),
        lambda: _gateway(hive),
        lambda: _sources(hive),
        lambda: unapplied(hive.run.values, hive.deployed(), rendered().serve_config),
    )
    yield checked("VRAM", lambda: gpus.devices(hive.states()))
    yield checked("Models", lambda: _models(hive, rendered()))
    if tries:
        yield from deep.groups(
            hive, lambda: str(rendered().ray_cluster["rayVersion"]), lambda nodes: _hosts(hive, nodes)
        )


def _gateway(hive: LocalHive) -> Iterator[Finding]:
    if gateway.answers(hive.gateway_url()):
        yield ok(f"the gateway answers at {hive.gateway_url()}")
    else:
        yield failed(f"the gateway at {hive.gateway_url()} does not answer", f"hive up -f {hive.run.values}")


def _sources(hive: LocalHive) -> Iterator[Finding]:
    """What the values name is there, for the next start of a replica."""
    try:
        checks.prepare(hive.values(), hive.where)
    except HiveErrors as error:
        for one in error.errors:
            yield failed(one.what, one.fix)
    else:
        yield ok(f"{hive.run.values} is valid, and the models that it names are there")


def unapplied(file: str, runs: Json, asked: Json) -> Iterator[Finding]:
    """Edits of the values file that do not run yet. Both as `serveConfigV2` has it."""
    if changes := compare(runs, asked):
        names = ", ".join(f"{one.model} {one.effect}" for one in changes)
        yield warning(f"{file} was edited and not made so: {names}", f"hive up -f {file}")
    else:
        yield ok(f"what runs is what {file} asks for")


def _models(hive: LocalHive, rendered: Rendered) -> Iterator[Finding]:
    asked = rendered.serve_config["applications"]
    yield from release.models(hive.applications(), [app["name"] for app in asked])


def _hosts(hive: LocalHive, nodes: Sequence[RayNode]) -> dict[str, str]:
    """All Ray nodes of a local Hive are on this machine."""
    return dict.fromkeys((node.address for node in nodes), hive.state().node)
