"""/v1/models over all models."""

from typing import Any

from gateway.catalog import Config, listing, unknown

NAMES = {"a": ["a", "gpt"], "b": ["b"]}


def card(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1, "owned_by": "vllm", "max_model_len": 64, **more}


CARDS = {"b": [card("b")], "a": [card("a"), card("gpt")]}


def ids(config: Config, client: str | None = None) -> list[str]:
    listed = listing(CARDS, config, client)
    assert listed["object"] == "list"
    return [one["id"] for one in listed["data"]]


def test_all_models_with_their_aliases_are_listed_in_one_order() -> None:
    assert ids(Config(models=NAMES, allowed={})) == ["a", "gpt", "b"]


def test_every_card_names_the_model_that_it_stands_for() -> None:
    shown = listing(CARDS, Config(models=NAMES, allowed={}), None)["data"]
    assert {one["id"]: one["model"] for one in shown} == {"a": "a", "gpt": "a", "b": "b"}


def test_a_client_sees_what_it_may_use() -> None:
    """An alias goes with its model, an empty list is nothing, and who has none sees all."""
    config = Config(models=NAMES, allowed={"alice": ["a"], "nothing": []})
    assert ids(config, "alice") == ["a", "gpt"]
    assert ids(config, "nothing") == []
    assert ids(config, "bob") == ids(config, None) == ["a", "gpt", "b"]


def test_a_model_that_was_turned_off_is_gone_before_its_replicas_are() -> None:
    assert ids(Config(models={"b": ["b"]}, allowed={})) == ["b"]


def test_a_card_says_nothing_of_the_inside() -> None:
    """No folder of a pod, and no permissions; what clients use stays."""
    cards = {"a": [card("a", root="/models/secret-project", permission=[{}])]}
    (shown,) = listing(cards, Config(models=NAMES, allowed={}), None)["data"]
    assert shown == card("a") | {"owned_by": "hive", "model": "a"}
    assert "root" in cards["a"][0]


def test_the_answer_for_an_unknown_model_names_those_that_serve() -> None:
    error = unknown("c", listing(CARDS, Config(models=NAMES, allowed={}), None))["error"]
    assert error["code"] == "model_not_found"
    assert error["param"] == "model"
    assert "`c`" in error["message"]
    assert error["message"].endswith(": a, gpt, b")
    assert unknown("c", {"data": []})["error"]["message"].endswith(": none")
