"""Models that come, change and go: edits of the values of one Hive, whichever it is."""

import time
from collections.abc import Sequence

from hive.errors import HiveError
from hive.plan import reading
from hive.target import REMOVE, Edit, Json, Report, Target, Watch

ENDING_SECONDS = 120  # a replica finishes its requests for a minute
LOOK_SECONDS = 0.5


def deploy(hive: Target, name: str, entry: Json, report: Report, watch: Watch) -> None:
    """Add a model, or change one that there is: keys of the entry that are not named here stay. Returns when it serves.

    Args:
        name: what clients send as `model`.
        entry: as in `models` of a values file. Without `vram` in it or in the values, that is reckoned from the
            checkpoint.

    Raises:
        HiveError: it is refused, does not fit, or does not come to serve; with the reason.
    """
    models = hive.values().get("models") or {}
    there = models.get(name)
    whole = merged(there or {}, entry)
    if whole.get("replicas", 1) == 0 and "replicas" not in entry:  # it was shut down
        entry = {**entry, "replicas": 1}
        whole["replicas"] = 1
    if "vram" not in whole:
        entry = {**entry, "vram": f"{reading.budget_mib(hive, name, whole)}Mi"}
        report(f"{name}: vram {entry['vram']}, reckoned from {whole.get('source')}")
    edits = [Edit(("models", name), entry)] if there is None else list(_edits(("models", name), entry))
    hive.change(edits, report, watch)


def entry_of(
    source: str,
    *,
    vram: str | None = None,
    replicas: int | None = None,
    max_num_seqs: int | None = None,
    max_model_len: int | None = None,
    max_tokens: int | None = None,
) -> Json:
    """An entry of `models` with these keys; what is None is not said. See `models` in the chart's values."""
    said = {
        "source": source,
        "vram": vram,
        "replicas": replicas,
        "maxNumSeqs": max_num_seqs,
        "maxModelLen": max_model_len,
        "defaults": None if max_tokens is None else {"maxTokens": max_tokens},
    }
    return {key: value for key, value in said.items() if value is not None}


def scale(hive: Target, name: str, replicas: int, report: Report, watch: Watch) -> None:
    """Another number of replicas; no replica that stays is touched.

    Raises:
        HiveError: there is no such model, an autoscaler decides, or they do not fit.
    """
    values = hive.values()
    entry = _entry(values, name)
    shared = (values.get("modelDefaults") or {}).get("autoscaling")
    if entry.get("autoscaling") or (shared and "replicas" not in entry and "autoscaling" not in entry):
        at = f"models.{name}.autoscaling" if entry.get("autoscaling") else "modelDefaults.autoscaling"
        raise HiveError(
            f"the replicas of {name} are its autoscaler's to choose ({at})",
            f"edit {at}.min and max in the values, or put replicas in its place",
        )
    hive.change([Edit(("models", name, "replicas"), replicas)], report, watch)


def shutdown(hive: Target, names: Sequence[str], report: Report, watch: Watch) -> None:
    """Turn models off; returns when their VRAM is free. Their entries stay: `deploy` or `scale` brings them back.

    Raises:
        HiveError: there is no such model, or it does not end.
    """
    values = hive.values()
    edits = []
    for name in names:
        if _entry(values, name).get("autoscaling"):
            report(f"{name}: its autoscaling goes from its entry, which can't have that and replicas: 0")
            edits.append(Edit(("models", name, "autoscaling"), REMOVE))
        edits.append(Edit(("models", name, "replicas"), 0))
    hive.change(edits, report, watch)
    wait_until_gone(hive, names)


def wait_until_gone(hive: Target, names: Sequence[str]) -> None:
    """Wait until these models hold no lease: Serve forgets a replica before its process and its bytes are gone.

    Raises:
        HiveError: one still does.
    """
    deadline = time.monotonic() + ENDING_SECONDS
    while held := sorted({lease.model for state in hive.states().values() for lease in state.leases} & set(names)):
        if time.monotonic() > deadline:
            raise HiveError(f"{', '.join(held)}: turned off, and still there", "see what holds on: hive status")
        time.sleep(LOOK_SECONDS)


def _entry(values: Json, name: str) -> Json:
    models: Json = values.get("models") or {}
    if name not in models:
        raise HiveError(f"the values have no model {name!r}", f"those that are there: {', '.join(models) or 'none'}")
    entry: Json = models[name]
    return entry


def _edits(path: tuple[str, ...], entry: Json) -> list[Edit]:
    """One for each key, so that what else the entry holds stays as it is written."""
    found = []
    for key, value in entry.items():
        found += _edits((*path, key), value) if isinstance(value, dict) and value else [Edit((*path, key), value)]
    return found


def merged(old: Json, new: Json) -> Json:
    """One with the keys of the other, key by key all the way down."""
    result = dict(old)
    for key, value in new.items():
        before = result.get(key)
        result[key] = merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return result
