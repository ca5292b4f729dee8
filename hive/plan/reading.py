"""From a values file, the checkpoints that it names and a running Hive to a scenario. The module here that reads."""

import copy
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from hive import rendering, serve_api, values_file
from hive.changes import Change, Effect, compare
from hive.errors import HiveError
from hive.local.checks import digest
from hive.local.target import LocalHive
from hive.plan import scenario as scenarios
from hive.plan.needs import Need, need, usual_budget_mib
from hive.plan.planning import Plan
from hive.plan.scenario import Scenario, Stay
from hive.rendering import Json, Rendered
from hive.target import Edit
from serve_app import checkpoint, sizing
from serve_app.args import ModelArgs
from serve_app.versions import engine_versions
from vram_agent.api import LeaseState, State

CONNECTIONS = 8
PLACEHOLDER = "1Mi"  # stands for a budget until it is known
LEAVING = (LeaseState.PENDING, LeaseState.DRAINING, LeaseState.ORPHANED)


def read(file: Path, models_dir: Path, gpus: str | None, hive: LocalHive | None) -> Scenario:
    """What the file asks for, on GPUs of these sizes or those of a running Hive, as if nothing ran.

    Raises:
        HiveError: the file or the sizes are wrong, or the running Hive does not answer. A checkpoint that can't be read
            is in the scenario's entry.
    """
    values = rendering.read_values(file)
    missing = _without_vram(values)
    rendered = rendering.render_values(_filled(values, dict.fromkeys(missing, PLACEHOLDER)))
    state = hive.state() if hive else None
    kind = _kind(rendered, state)
    found = _needs(rendered.serve_config, models_dir, kind, state)
    budgets = {
        app["name"]: f"{usual_budget_mib(known, app['args']['maxNumSeqs'])}Mi"
        for app in rendered.serve_config["applications"]
        if app["name"] in missing and isinstance(known := found[app["name"]], Need)
    }
    rendered = rendering.render_values(_filled(values, dict.fromkeys(missing, PLACEHOLDER) | budgets))
    said = {app["name"]: app["name"] not in missing for app in rendered.serve_config["applications"]}
    result = Scenario(
        rendered=rendered,
        entries=scenarios.entries(rendered.serve_config, said, found),
        groups=scenarios.groups(rendered, cpus=os.cpu_count() if hive else None),
        gpus=scenarios.gpus_of_agent(state.devices)
        if state
        else scenarios.gpus_of_sizes(gpus, rendered)
        if gpus
        else None,
        kind=kind,
    )
    for name in missing - budgets.keys():
        result = result.edit(name, mib=0)
    return result


def upgrade(asked: Scenario, hive: LocalHive) -> tuple[Scenario, list[Change]]:
    """The scenario with the replicas that go on where they are, and what the values change of what runs. All replicas
    that restart are taken for gone before the first of them starts again.

    Raises:
        HiveError: the running Hive does not answer.
    """
    changes = compare(serve_api.deployed_config(hive.serve.details()), asked.rendered.serve_config)
    state = hive.state()
    if digest(asked.rendered) != hive.run.cluster:
        why = "pods, ports or the agent change, so all of Ray is started anew: make stop && make run"
        named = {change.model for change in changes}
        restarts = [Change(name, Effect.RESTART, why) for name in {lease.model for lease in state.leases} - named]
        changes = [replace(c, effect=Effect.RESTART) if c.effect is Effect.IN_PLACE else c for c in changes] + restarts
        return asked, sorted(changes, key=lambda change: change.model)
    leave = {change.model for change in changes if change.effect is not Effect.IN_PLACE}
    stays = [
        Stay(lease.model, lease.devices, lease.since)
        for lease in state.leases
        if lease.state not in LEAVING and lease.model not in leave
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


def _kind(rendered: Rendered, state: State | None) -> str:
    if state is not None:
        return state.devices[0].kind
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
    serve_config: Mapping[str, Any], models_dir: Path, kind: str, state: State | None
) -> dict[str, Need | HiveError]:
    """What every checkpoint comes to, by model; side by side, because the hub takes its time."""
    asked = [ModelArgs.model_validate(app["args"]) for app in serve_config["applications"]]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        found = pool.map(lambda args: need_of(args, models_dir, kind, state), asked)
        return {args.name: one for args, one in zip(asked, found, strict=True)}


def need_of(args: ModelArgs, models_dir: Path, kind: str, state: State | None) -> Need | HiveError:
    """What one model's checkpoint comes to, or why it can't be read.

    Args:
        kind: of the devices, `host` or `nvml`.
        state: of an agent that may have measured this very engine.
    """
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
        measured = None
        if state is not None:
            wanted = args.engine_kwargs(ranks)
            fingerprint = sizing.fingerprint(found, wanted, state.devices[0].name, engine_versions())
            measured = state.overheads.get(fingerprint)
        return need(found, args, kind, ranks, measured)
    except ImportError as error:
        return HiveError(f"models.{args.name}: {error}", "pip install huggingface-hub, or name a folder as its source")
    except ValueError as error:
        what, _, fix = str(error).partition(". FIX: ")
        return HiveError(f"models.{args.name}: {what}", fix or "put the whole model there")
