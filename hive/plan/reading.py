"""From a values file, the checkpoints that it names and a running Hive to a scenario. The module here that reads."""

import copy
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from hive import rendering, values_file
from hive.changes import Change, Effect, compare, ended
from hive.errors import HiveError
from hive.local.run import folders
from hive.plan import scenario as scenarios
from hive.plan.needs import Need, need, usual_budget_mib
from hive.plan.planning import Plan
from hive.plan.scenario import Scenario, Stay
from hive.rendering import Json, Rendered
from hive.target import Edit, Target
from serve_app import checkpoint, sizing
from serve_app.args import ModelArgs
from serve_app.checkpoint import Checkpoint
from serve_app.versions import engine_versions
from vram_agent.api import MIB, LeaseState, State

CONNECTIONS = 8
PLACEHOLDER = "1Mi"  # stands for a budget until it is known
LEAVING = (LeaseState.PENDING, LeaseState.DRAINING, LeaseState.ORPHANED)


def read(values: Json, gpus: str | None, hive: Target | None) -> Scenario:
    """What these values ask for, on GPUs of these sizes or those of a running Hive, as if nothing ran.

    Raises:
        HiveError: the values or the sizes are wrong, or the running Hive does not answer. A checkpoint that can't be
            read is in the scenario's entry.
    """
    missing = _without_vram(values)
    render = hive.render if hive else rendering.render_values
    rendered = render(_filled(values, dict.fromkeys(missing, PLACEHOLDER)))
    states = hive.states() if hive else {}
    kind = _kind(rendered, states)
    found = _needs(rendered.serve_config, folders().models, kind, states)
    budgets = {
        app["name"]: f"{usual_budget_mib(known, app['args']['maxNumSeqs'])}Mi"
        for app in rendered.serve_config["applications"]
        if app["name"] in missing and isinstance(known := found[app["name"]], Need)
    }
    rendered = render(_filled(values, dict.fromkeys(missing, PLACEHOLDER) | budgets))
    said = {app["name"]: app["name"] not in missing for app in rendered.serve_config["applications"]}
    there = scenarios.gpus_of_agents(states) if hive else None
    result = Scenario(
        rendered=rendered,
        entries=scenarios.entries(rendered.serve_config, said, found),
        groups=scenarios.groups(rendered, cpus=hive.worker_cpus() if hive else None),
        gpus=scenarios.gpus_of_sizes(gpus, rendered) if gpus else there,
        kind=kind,
    )
    for name in missing - budgets.keys():
        result = result.edit(name, mib=0)
    return result


def budget_mib(hive: Target, name: str, entry: Json, weights: int | None = None) -> int:
    """MiB of `vram` for one model that names none, as `hive plan --write` would say.

    Args:
        weights: bytes of each device, in place of what the checkpoint says.

    Raises:
        HiveError: its checkpoint can't be read, or the chart refuses the entry.
    """
    alone = {**hive.values(), "models": {name: {**entry, "replicas": 1}}}
    (one,) = read(alone, None, hive).entries
    if one.error:
        raise one.error
    if weights is None or one.need is None:
        return one.want.mib
    return one.want.mib - (one.need.weights - weights) // MIB


def upgrade(asked: Scenario, hive: Target) -> tuple[Scenario, list[Change]]:
    """The scenario with the replicas that go on where they are, and what the values change of what runs. All replicas
    that restart are taken for gone before the first of them starts again.

    Raises:
        HiveError: the running Hive does not answer.
    """
    changes = compare(hive.deployed(), asked.rendered.serve_config)
    leases = [(node, lease) for node, state in hive.states().items() for lease in state.leases]
    if why := hive.restarts_all(asked.rendered):
        named = {change.model for change in changes}
        restarts = [Change(name, Effect.RESTART, why) for name in {lease.model for _, lease in leases} - named]
        changes = [replace(c, effect=Effect.RESTART) if c.effect is Effect.IN_PLACE else c for c in changes] + restarts
        return asked, sorted(changes, key=lambda change: change.model)
    end = ended(changes)
    several = len({node for node, _ in leases}) > 1
    stays = [
        Stay(lease.model, tuple(scenarios.gpu_id(node, device, several) for device in lease.devices), lease.since)
        for node, lease in leases
        if lease.state not in LEAVING and lease.model not in end
    ]
    return replace(asked, running=tuple(stays)), changes


def write(file: Path, found: Plan) -> None:
    """Put the budgets that were reckoned into the file.

    Raises:
        HiveError: the file can't be written, or not without touching the rest of it; it stays as it is.
    """
    budgets = [
        Edit(("models", model.name, "vram"), f"{model.vram_mib}Mi")
        for model in found.models
        if model.vram_mib and not model.vram_said
    ]
    if budgets:
        values_file.write(file, values_file.edit(values_file.read(file), budgets))


def _kind(rendered: Rendered, states: Mapping[str, State]) -> str:
    devices = [device for state in states.values() for device in state.devices]
    if devices:
        return devices[0].kind
    return "host" if rendered.agent.env["HIVE_DEVICE_KIND"] == "host" else "nvml"


def _without_vram(values: Json) -> set[str]:
    """Models that name a source and no budget; other mistakes are the schema's."""
    models = values.get("models")
    listed = models.items() if isinstance(models, dict) else ()
    return {name for name, entry in listed if isinstance(entry, dict) and "vram" not in entry}


def _filled(values: Json, budgets: Mapping[str, str]) -> Json:
    filled = copy.deepcopy(values)
    for name, vram in budgets.items():
        filled["models"][name]["vram"] = vram
    return filled


def _needs(
    serve_config: Mapping[str, Any], models_dir: Path, kind: str, states: Mapping[str, State]
) -> dict[str, Need | HiveError]:
    """What every checkpoint comes to, by model; side by side, because the hub takes its time."""
    asked = [ModelArgs.model_validate(app["args"]) for app in serve_config["applications"]]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        found = pool.map(lambda args: _need(args, models_dir, kind, states), asked)
        return {args.name: one for args, one in zip(asked, found, strict=True)}


def _need(args: ModelArgs, models_dir: Path, kind: str, states: Mapping[str, State]) -> Need | HiveError:
    try:
        if checkpoint.is_folder(args.source):
            found = checkpoint.read_folder(models_dir / args.source)
        else:
            found = checkpoint.read_hub(args.source)
        ranks = [
            checkpoint.read_adapter_rank(models_dir / source)
            if checkpoint.is_folder(source)
            else checkpoint.read_hub_adapter_rank(source)
            for source in args.adapters.values()
        ]
        return need(found, args, kind, ranks, _measured(found, args.engine_kwargs(ranks), states))
    except ImportError as error:
        return HiveError(f"models.{args.name}: {error}", "pip install huggingface-hub, or name a folder as its source")
    except ValueError as error:
        what, _, fix = str(error).partition(". FIX: ")
        return HiveError(f"models.{args.name}: {what}", fix or "put the whole model there")


def _measured(found: Checkpoint, wanted: Mapping[str, Any], states: Mapping[str, State]) -> int | None:
    """The most that any agent has measured of this very engine on one of its kinds of GPU."""
    if not states:
        return None
    versions = engine_versions()
    known = [
        state.overheads.get(sizing.fingerprint(found, wanted, name, versions))
        for state in states.values()
        for name in {device.name for device in state.devices}
    ]
    return max((one for one in known if one is not None), default=None)
