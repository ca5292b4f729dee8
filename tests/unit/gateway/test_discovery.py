"""Envoy's files follow Ray Serve, the Secret and the chart; and when one of these fails, what was known stays."""

import asyncio
import contextlib
import dataclasses
import json
import stat
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from gateway.discovery import ASKING, Discovery
from gateway.settings import Settings
from tests.unit.gateway.conftest import LOOPBACK, Answer, Fakes, Look, Place


def keyed(settings: Settings, place: Place, **clients: str) -> Settings:
    """With these keys in a Secret."""
    folder = place.root / "keys"
    folder.mkdir(exist_ok=True)
    for client, key in clients.items():
        (folder / client).write_text(key)
    return dataclasses.replace(settings, keys=folder)


def clients(place: Place) -> dict[str, str]:
    """Who has which key, as Envoy is told."""
    (extension,) = json.loads((place.run / "keys.json").read_text())["resources"]
    return {one["key"]: one["client"] for one in extension["typed_config"]["credentials"]}


def test_everything_is_there_before_envoy_starts(settings: Settings, place: Place) -> None:
    """No replica is known then, and Envoy refuses what is missing."""
    place.chart("a", "b")
    Discovery(keyed(settings, place, me="a-long-key")).prepare()
    assert set(place.files()) == {"replicas.json", "keys.json"}
    assert place.replicas("a") == place.replicas("b") == []
    assert clients(place) == {"a-long-key": "me"}


def test_only_who_runs_the_gateway_reads_its_files(settings: Settings, place: Place) -> None:
    """They hold keys."""
    place.chart("a")
    Discovery(keyed(settings, place, me="a-long-key")).prepare()
    for name in place.files():
        assert stat.S_IMODE((place.run / name).stat().st_mode) == 0o600, name


def test_without_a_secret_there_are_no_keys(settings: Settings, place: Place) -> None:
    place.chart("a")
    Discovery(settings).prepare()
    assert not (place.run / "keys.json").exists()


def test_a_chart_that_is_not_there_is_said(settings: Settings) -> None:
    with pytest.raises(FileNotFoundError):
        Discovery(settings).prepare()


async def test_files_follow_the_replicas(settings: Settings, place: Place, fakes: Fakes, look: Look) -> None:
    place.chart("a", "b")
    discovery = Discovery(settings)
    fakes.models = {"a": [(LOOPBACK, fakes.replica)]}
    await look(discovery)
    assert place.replicas("a") == [(LOOPBACK, fakes.replica)]
    assert place.replicas("b") == []
    fakes.models = {"a": [(LOOPBACK, fakes.replica), ("127.0.0.9", 1)], "b": [(LOOPBACK, fakes.replica)]}
    await look(discovery)
    assert place.replicas("a") == [(LOOPBACK, fakes.replica), ("127.0.0.9", 1)]
    assert place.replicas("b") == [(LOOPBACK, fakes.replica)]
    fakes.models = {"b": []}
    await look(discovery)
    assert place.replicas("a") == place.replicas("b") == []


async def test_a_file_is_replaced_where_it_changed_and_only_there(
    settings: Settings, place: Place, fakes: Fakes, look: Look
) -> None:
    """Envoy takes over what is moved into place, each time that it is."""
    place.chart("a", "b")
    discovery = Discovery(keyed(settings, place, me="a-long-key"))
    fakes.serve("a", "b")
    await look(discovery)
    before = place.files()
    await look(discovery)
    assert place.files() == before
    fakes.models["b"] = []
    await look(discovery)
    after = place.files()
    assert {name for name in after if after[name] != before[name]} == {"replicas.json"}
    assert after["replicas.json"][1] != before["replicas.json"][1]


async def test_no_half_written_file_has_a_name_that_envoy_reads(
    settings: Settings, place: Place, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full in the midst leaves the file before."""
    place.chart("a")
    discovery = Discovery(keyed(settings, place, me="a-long-key"))
    await look(discovery)
    before = place.files()["keys.json"]
    keyed(settings, place, me="another-key")

    def full(self: Path, target: Path) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", full)
        with pytest.raises(OSError, match="no space"):
            await look(discovery)
    assert place.files()["keys.json"] == before
    await look(discovery)
    assert clients(place) == {"another-key": "me"}


def dead() -> web.Response:
    return web.Response(status=500, text="a traceback")


def failed() -> web.Response:
    """A 500 that looks like an empty Serve."""
    return web.json_response({}, status=500)


def refused() -> web.Response:
    return web.Response(status=401, text="Unauthorized")


def page() -> web.Response:
    return web.Response(text="<html>", content_type="text/html")


def cut() -> web.Response:
    return web.Response(text='{"target_groups": [', content_type="application/json")


def other() -> web.Response:
    return web.json_response(["not", "what", "was", "asked"])


def half() -> web.Response:
    """A group of another Ray."""
    return web.json_response({"target_groups": [{"app_name": "a", "protocol": "HTTP"}]})


@pytest.mark.parametrize("answer", [dead, failed, refused, page, cut, other, half])
async def test_what_was_known_stays_when_ray_serve_answers_something_else(
    answer: Answer, settings: Settings, place: Place, fakes: Fakes, look: Look
) -> None:
    """The replicas may well serve, and an address that is wrong costs less than one that is missing."""
    place.chart("a")
    discovery = Discovery(settings)
    fakes.serve("a")
    await look(discovery)
    before, cards = place.files(), dict(discovery.cards)
    fakes.answer = answer
    with pytest.raises((*ASKING, AttributeError, KeyError)):
        await look(discovery)
    assert place.files() == before
    assert discovery.cards == cards
    fakes.answer = None
    fakes.models = {"a": []}
    await look(discovery)
    assert place.replicas("a") == []


async def test_what_was_known_stays_while_serve_has_no_controller(
    settings: Settings, place: Place, fakes: Fakes, look: Look
) -> None:
    """Ray answers as if there were no Serve, until the controller is back; replicas live without it."""
    place.chart("a")
    discovery = Discovery(settings)
    fakes.serve("a")
    await look(discovery)
    before = place.files()
    fakes.answer = lambda: web.json_response({"controller_info": {}, "proxies": {}, "applications": {}})
    await look(discovery)
    assert place.files() == before
    assert discovery.cards


async def test_what_was_known_stays_when_ray_is_gone(
    settings: Settings, place: Place, fakes: Fakes, look: Look, unused_tcp_port: int
) -> None:
    place.chart("a")
    fakes.serve("a")
    await look(Discovery(settings))
    before = place.files()
    with pytest.raises(aiohttp.ClientConnectionError):
        await look(Discovery(dataclasses.replace(settings, dashboard=f"http://{LOOPBACK}:{unused_tcp_port}")))
    assert place.replicas("a") == [(LOOPBACK, fakes.replica)]
    assert {name: content for name, (content, _) in place.files().items()} == {
        name: content for name, (content, _) in before.items()
    }


async def test_keys_are_taken_over_while_ray_is_gone(
    settings: Settings, place: Place, fakes: Fakes, look: Look
) -> None:
    """A key that leaked is taken back whatever else is broken."""
    place.chart("a")
    discovery = Discovery(keyed(settings, place, me="a-long-key", you="another-key"))
    await look(discovery)
    fakes.answer = dead
    (place.root / "keys/you").unlink()
    with pytest.raises(aiohttp.ClientResponseError):
        await look(discovery)
    assert clients(place) == {"a-long-key": "me"}


async def test_a_discovery_that_starts_anew_empties_nothing(
    settings: Settings, place: Place, fakes: Fakes, look: Look
) -> None:
    """Envoy beside it goes on with what it was told, until Ray Serve has said something else."""
    place.chart("a")
    fakes.serve("a")
    await look(Discovery(settings))
    before = place.files()
    place.chart("a", "b")
    Discovery(settings).prepare()
    assert place.files() == before
    assert place.replicas("a") == [(LOOPBACK, fakes.replica)]


async def test_a_new_model_is_taken_over_while_the_gateway_runs(
    settings: Settings, place: Place, fakes: Fakes, look: Look
) -> None:
    place.chart("a")
    discovery = Discovery(settings)
    fakes.serve("a", "b")
    await look(discovery)
    assert place.replicas("b") == []
    place.chart("a", "b", alice=["b"])
    await look(discovery)
    assert place.replicas("a") == place.replicas("b") == [(LOOPBACK, fakes.replica)]
    assert discovery.config.allowed == {"alice": ["b"]}


async def test_a_model_that_the_chart_takes_away_leaves_no_replicas(
    settings: Settings, place: Place, fakes: Fakes, look: Look
) -> None:
    """Ray Serve has it a while longer."""
    place.chart("a", "b")
    discovery = Discovery(settings)
    fakes.serve("a", "b")
    await look(discovery)
    place.chart("a")
    await look(discovery)
    assert place.replicas("a") == [(LOOPBACK, fakes.replica)]
    assert place.replicas("b") == []
    assert set(discovery.cards) == {"a"}


async def test_a_models_cards_are_asked_once_and_again_when_their_replica_goes(
    settings: Settings, place: Place, fakes: Fakes, look: Look
) -> None:
    """They change with the model, and a changed model has new replicas."""
    place.chart("a")
    discovery = Discovery(settings)
    fakes.serve("a")
    await look(discovery)
    await look(discovery)
    assert fakes.asked == ["a"]
    assert [card["id"] for card in discovery.cards["a"]] == ["a"]
    fakes.models = {"a": [("localhost", fakes.replica)]}
    await look(discovery)
    assert fakes.asked == ["a", "a"]
    fakes.models = {}
    await look(discovery)
    assert discovery.cards == {}


@pytest.mark.parametrize("answer", [dead, page, cut, half, other])
async def test_a_replica_that_does_not_say_what_it_serves_is_asked_again(
    answer: Answer, settings: Settings, place: Place, fakes: Fakes, look: Look, caplog: pytest.LogCaptureFixture
) -> None:
    """It takes requests meanwhile; Ray Serve says that it can. Other models are not kept up."""
    place.chart("a", "b")
    discovery = Discovery(settings)
    fakes.serve("a", "b")
    fakes.cards = lambda model: answer() if model == "a" else web.json_response({"data": [{"id": model}]})
    await look(discovery)
    assert place.replicas("a") == [(LOOPBACK, fakes.replica)]
    assert set(discovery.cards) == {"b"}
    assert "a: its replica at" in caplog.text
    fakes.cards = None
    await look(discovery)
    assert set(discovery.cards) == {"a", "b"}


async def test_an_application_that_is_none_of_the_charts_is_left_alone(
    settings: Settings, place: Place, fakes: Fakes, look: Look
) -> None:
    """Somebody may deploy a thing of their own to this Ray."""
    place.chart("a")
    discovery = Discovery(settings)
    fakes.serve("a", "stranger")
    await look(discovery)
    assert set(place.files()) == {"replicas.json"}
    assert place.replicas("a") == [(LOOPBACK, fakes.replica)]
    assert place.replicas("stranger") == []
    assert fakes.asked == ["a"]


async def test_rays_token_is_read_at_each_look(settings: Settings, place: Place, fakes: Fakes, look: Look) -> None:
    """It may be replaced. And no replica sees it."""
    place.chart("a")
    token = place.root / "token"
    discovery = Discovery(dataclasses.replace(settings, token_file=token))
    for own in ("first", "second"):
        token.write_text(f"{own}\n")
        await look(discovery)
        assert fakes.headers[-1]["Authorization"] == f"Bearer {own}"


async def test_without_a_token_none_is_sent(settings: Settings, place: Place, fakes: Fakes, look: Look) -> None:
    place.chart("a")
    await look(Discovery(settings))
    assert "Authorization" not in fakes.headers[-1]


@pytest.mark.parametrize("answer", [dead, other])
async def test_it_looks_for_ever_and_says_a_trouble_once(
    answer: Answer, settings: Settings, place: Place, fakes: Fakes, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever Ray Serve answers; and it says when that is over."""
    place.chart("a")
    caplog.set_level("INFO")
    done, failed = asyncio.Event(), 0

    def fails_thrice() -> web.Response:
        nonlocal failed
        failed += 1
        if failed == 3:
            fakes.answer = None
            fakes.serve("a")
        return answer()

    def seen(model: str) -> web.Response:
        done.set()
        return web.json_response({"data": []})

    fakes.answer, fakes.cards = fails_thrice, seen
    looking = asyncio.create_task(Discovery(settings).run())
    await done.wait()
    looking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await looking
    assert place.replicas("a") == [(LOOPBACK, fakes.replica)]
    assert failed == 3
    if answer is dead:
        assert caplog.text.count("Ray Serve can't be asked") == 1


def test_what_discovery_calls_a_failure_to_ask_is_every_kind_of_it() -> None:
    """aiohttp's own are not all OSErrors."""
    for kind in (aiohttp.ClientPayloadError, aiohttp.ContentTypeError, asyncio.TimeoutError, ConnectionResetError):
        assert issubclass(kind, ASKING)
