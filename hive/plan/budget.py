"""The budget of a model that is about to be deployed: what `vram` should be when nobody says it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from hive import rendering
from hive.errors import HiveError
from hive.plan import reading
from hive.plan.needs import Need, usual_budget_mib
from hive.rendering import Json
from serve_app.args import ModelArgs
from vram_agent.api import State


def reckon(values: Json, model: str, models_dir: Path, states: Mapping[str, State], weights: int | None = None) -> int:
    """MiB of each device: the weights + KV cache for `maxNumSeqs` requests of the full length (one request where the
    entry does not say how many) + everything around them, measured where an agent has seen this very engine.

    Args:
        values: with an entry of this model.
        models_dir: holds the folders that a source may name.
        states: of the agents, by node: the kind of device, and what was measured.
        weights: bytes of each device; None: from the checkpoint.

    Raises:
        HiveError: the chart refuses the entry, the checkpoint can't be read, or there is no device.
    """
    entry = values["models"][model]
    filled = values | {"models": {model: entry | {"vram": reading.PLACEHOLDER}}}
    (app,) = rendering.render_values(filled).serve_config["applications"]
    args = ModelArgs.model_validate(app["args"])
    if not any(state.devices for state in states.values()):
        raise HiveError("no VRAM agent shows a device", "see what is wrong with it: hive status")
    budgets = []
    # One of each kind, because an engine that ran on it may have been measured.
    for state in {state.devices[0].name: state for state in states.values() if state.devices}.values():
        need = reading.need_of(args, models_dir, state.devices[0].kind, state)
        if not isinstance(need, Need):
            raise need
        if weights is not None:
            need = replace(need, weights=weights)
        budgets.append(usual_budget_mib(need, args.max_num_seqs))
    return max(budgets)
