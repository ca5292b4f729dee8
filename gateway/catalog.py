"""`/v1/models` over all models. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

Json = dict[str, Any]
# Of vLLM's cards: the folder inside the pods, and permissions that nobody has used since OpenAI dropped them.
INNER = ("root", "permission")


class Config(BaseModel):
    """What the chart says of models and clients (config/gateway.json)."""

    models: dict[str, list[str]]
    """The names that stand for each model that is on, its own first."""
    allowed: dict[str, list[str]]
    """The models that a client may use; who is not here may use every one."""


def listing(cards: Mapping[str, Iterable[Json]], config: Config, client: str | None) -> Json:
    """OpenAI's list of the models that serve now and that this client may use.

    Args:
        cards: what the replicas of each model that serves say of it. `model` in a card names the entry that it stands
            for, because aliases and adapters have cards of their own.
    """
    allowed = config.allowed.get(client or "")
    shown = [
        {key: value for key, value in card.items() if key not in INNER} | {"owned_by": "hive", "model": model}
        for model, own in sorted(cards.items())
        if model in config.models and (allowed is None or model in allowed)
        for card in own
    ]
    return {"object": "list", "data": shown}


def unknown(name: str, listed: Json) -> Json:
    """OpenAI's error for a model that is not listed."""
    names = ", ".join(card["id"] for card in listed["data"]) or "none"
    return {
        "error": {
            "message": f"The model `{name}` does not serve. The models that do are: {names}",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }
