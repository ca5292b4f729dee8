"""What can be known before anything of this machine is touched: each mistake with its mend."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping

from hive import placement, rendering, templates
from hive.errors import HiveError, HiveErrors
from hive.local import gateway, processes
from hive.local.run import Folders
from hive.rendering import Json, Rendered
from serve_app import checkpoint, lora, sizing
from serve_app.args import ModelArgs
from vram_agent.api import MIB, Device


def prepare(values: Json, where: Folders) -> Rendered:
    """Render these values and check all that they name here.

    Raises:
        HiveError: each mistake, with its mend.
    """
    rendered = rendering.render_values(values)
    errors = templates.check(rendered.serve_config) + _missing_sources(rendered, where)
    if errors:
        raise HiveErrors(errors)
    gateway.check_keys(rendered.gateway, where)
    return rendered


def check_fit(
    rendered: Rendered, devices: Iterable[Device], where: Folders, there: placement.Standing | None = None
) -> None:
    """Refuse what can't be placed on these devices.

    Args:
        there: what the Ray that runs has; None: none runs yet.

    Raises:
        HiveError: with the figures.
    """
    by_id = {device.id: device for device in devices}
    assigned = assign(rendered, list(by_id))
    workers = [placement.Worker.of([by_id[name].allocatable for name in names]) for _, names in assigned]
    wanted = placement.wants(rendered.serve_config)
    # Every worker of this host registers all its CPUs.
    if problem := placement.too_many_cpus(wanted, len(workers) * (os.cpu_count() or 1)):
        raise HiveError(problem, "lower models.*.cpu: it is what Ray counts, not a limit; or replicas")
    if problem := placement.without_room(wanted, there or placement.Standing(workers)):
        raise HiveError(problem, "lower vram or replicas of a model, turn one off (replicas: 0), or free memory")
    _check_budgets(rendered, {group.gpus_per_worker: by_id[names[0]].kind for group, names in assigned}, where)


def assign(rendered: Rendered, devices: list[str]) -> list[tuple[rendering.WorkerGroup, list[str]]]:
    """Devices for every worker of every group that has some, in order.

    Raises:
        HiveError: there are fewer devices than the groups ask for.
    """
    left = list(devices)
    assigned = []
    for group in (group for group in rendered.groups if group.gpus_per_worker):
        for _ in range(group.replicas):
            if len(left) < group.gpus_per_worker:
                raise HiveError(
                    f"workerGroups.{group.name} asks for {group.replicas} x {group.gpus_per_worker} devices; "
                    f"this machine has {len(devices)}: {', '.join(devices)}",
                    f"lower workerGroups.{group.name}.replicas or gpusPerWorker",
                )
            assigned.append((group, left[: group.gpus_per_worker]))
            left = left[group.gpus_per_worker :]
    return assigned


def _missing_sources(rendered: Rendered, where: Folders) -> list[HiveError]:
    """Models and adapters that name a folder in which there is none."""
    errors = []
    for app in rendered.serve_config["applications"]:
        args = app["args"]
        wanted = [("source", args["source"], "model", checkpoint.CONFIG)]
        wanted += [
            (f"adapters.{n}", source, "adapter", checkpoint.ADAPTER_CONFIG) for n, source in args["adapters"].items()
        ]
        for key, source, what, file in wanted:
            folder = where.models / source
            if checkpoint.is_folder(source) and not (folder / file).exists():
                errors.append(
                    HiveError(
                        f"models.{app['name']}.{key}: {folder} holds no {what} (no {file})",
                        f"put the {what} there, or name one of the hub as owner/name",
                    )
                )
    return errors


def _check_budgets(rendered: Rendered, kinds: Mapping[int, str], where: Folders) -> None:
    """Refuse a budget that can't hold its model, where the model's files are here to tell."""
    errors = []
    for app in rendered.serve_config["applications"]:
        args = app["args"]
        if not all(map(checkpoint.is_folder, [args["source"], *args["adapters"].values()])):
            continue
        try:
            found = checkpoint.read_folder(where.models / args["source"])
            kind = kinds[args["tensorParallel"]]
            ranks = [checkpoint.read_adapter_rank(where.models / source) for source in args["adapters"].values()]
            engine = sizing.Engine.of(ModelArgs.model_validate(args).engine_kwargs(ranks), found.config, kind)
            sizing.divide(found, engine, kind, args["vramMib"] * MIB)
        except (sizing.BudgetError, checkpoint.CheckpointError, lora.RankError) as error:
            what, _, fix = str(error).partition(". FIX: ")
            errors.append(HiveError(f"models.{app['name']}: {what}", fix or "put the whole model there"))
    if errors:
        raise HiveErrors(errors)


def digest(rendered: Rendered) -> str:
    """Of all that only a restart of Ray can change. Not of the packages' code: replicas import that when they start."""
    content = [rendered.ray_cluster, rendered.agent.env, rendered.ports, rendered.serve_config["http_options"]]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def check_ports(rendered: Rendered) -> None:
    errors = []
    for name, port in rendered.ports.items():
        if owner := processes.port_owner(port):
            errors.append(
                HiveError(f"ports.{name}: {port} is taken by {owner}", f"end that, or set ports.{name} to a free port")
            )
    if errors:
        raise HiveErrors(errors)
