"""Which of a gateway's API keys may ask every model. Pure."""

from collections.abc import Mapping, Sequence

from hive.rendering import Json


def choose(keys: Mapping[str, Sequence[str]], values: Json) -> str | None:
    """A key that may ask every model, or None where no key is asked for or none may.

    Args:
        keys: by client.
        values: in force.
    """
    gateway = values.get("gateway") or {}
    if not gateway.get("keysSecret"):
        return None
    limits = gateway.get("clients") or {}
    return next(
        (key for client, own in keys.items() if "models" not in (limits.get(client) or {}) for key in own), None
    )
