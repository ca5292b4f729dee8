"""What the page is told, as functions of what agents, Ray Serve and counters say."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import status
from gateway.applications import applications
from gateway.status import COMPLETION_TOKENS, Sample, Silent, Status
from tests.gateway import showcase
from tests.gateway.site import application
from vram_agent.api import GIB, Event, EventKind, LeaseState, State


def test_a_model_that_serve_has_not_heard_of_and_one_that_goes_are_both_shown() -> None:
    found = applications({"applications": {"old": application("old", "DELETING", ("r1", "STOPPING"), wanted=0)}})
    shown = status.models(["new"], found, {}, None)
    assert [(model.name, model.status, model.wanted) for model in shown] == [
        ("new", "NOT_STARTED", 0),
        ("old", "DELETING", 0),
    ]
    assert [replica.state for replica in shown[1].replicas] == ["STOPPING"]


def test_a_model_says_why_it_does_not_serve_and_nothing_once_it_does() -> None:
    said = {
        name: application(name, state, message="Traceback:\nhive.ModelError: too small. FIX: more")
        for name, state in (("a", "DEPLOY_FAILED"), ("b", "RUNNING"))
    }
    failed, runs = status.models(["a", "b"], applications({"applications": said}), {}, None)
    assert (failed.reason, runs.reason) == ("too small. FIX: more", "")


def test_only_what_serves_and_generates_can_be_asked() -> None:
    cards = {"chat": [{"tasks": ["generate"]}], "embed": [{"tasks": ["embed"]}]}
    shown = status.models(["chat", "embed", "starts"], [], cards, {"chat": 2.5})
    assert [(model.name, model.chats, model.tokens_per_second) for model in shown] == [
        ("chat", True, 2.5),
        ("embed", False, 0.0),
        ("starts", False, 0.0),
    ]


def test_devices_have_the_figures_of_their_own_leases() -> None:
    said: list[State | Silent] = [*showcase.states(), Silent("gone", "does not answer")]
    nodes = {node.name: node for node in status.nodes(said)}
    assert list(nodes) == ["atlas", "gone", "luna", "nova"]
    assert (nodes["gone"].error, nodes["gone"].devices) == ("does not answer", [])
    first, second = nodes["atlas"].devices
    assert [(one.model, one.charged) for one in first.holders] == [("qwen3-8b", 14 * GIB), ("qwen3-embedding", 6 * GIB)]
    assert [one.model for one in second.holders] == ["gemma-3-12b"]
    waits = next(one for one in nodes["nova"].devices[0].holders if one.state is LeaseState.PENDING)
    assert (waits.place, waits.charged) == (1, 0)
    for device in (device for node in nodes.values() for device in node.devices):
        held = sum(one.charged for one in device.holders) + max(device.foreign, device.headroom)
        assert held + device.reserved + device.safety + device.free == device.total


@pytest.mark.parametrize("turn", [1, -1])
def test_an_agent_that_takes_anothers_place_is_shown_once(turn: int) -> None:
    said: list[State | Silent] = [showcase.states()[0], Silent("atlas", "does not answer")]
    (node,) = status.nodes(said[::turn])
    assert (node.error, len(node.devices)) == (None, 2)


def test_the_latest_events_of_all_nodes_come_first() -> None:
    def state(node: str, *times: float) -> State:
        events = tuple(Event(time=time, kind=EventKind.OVER, text=f"at {time}") for time in times)
        return State(node=node, devices=(), leases=(), events=events, overheads={})

    said = [state("a", *range(0, 200, 2)), Silent("gone", ""), state("b", *range(1, 200, 2))]
    shown = status.events(said)
    assert [event.time for event in shown] == list(range(199, 199 - status.EVENTS_SHOWN, -1))
    assert {event.node for event in shown} == {"a", "b"}


def test_nothing_of_a_client_or_a_process_is_told() -> None:
    """Anybody may look. Leases have PIDs, and counters have clients."""
    counted = f'# TYPE {COMPLETION_TOKENS} counter\n{COMPLETION_TOKENS}{{model="a",client="alice"}} 5\n'
    rates = status.tokens_per_second([Sample(0, {"g": {}}), Sample(1, {"g": status.tokens(counted)})])
    whole = Status(
        time=0,
        asks_for_keys=True,
        serve_answers=True,
        models=status.models(["a"], applications({"applications": showcase.APPLICATIONS}), {}, rates),
        nodes=status.nodes(showcase.states()),
        events=[],
    )
    text = whole.model_dump_json()
    assert "alice" not in text
    assert "pid" not in text
    assert "4242" not in text
    assert json.loads(text)["models"][0]["tokens_per_second"] == 5


def test_tokens_are_of_all_clients() -> None:
    metrics = "\n".join(
        [
            f"# TYPE {COMPLETION_TOKENS} counter",
            f'{COMPLETION_TOKENS}{{model="a",client="x"}} 5',
            f'{COMPLETION_TOKENS}{{model="a",client="y\\"}}"}} 6',
            f'{COMPLETION_TOKENS}{{model="b",client=""}} 7',
            "# TYPE envoy_hive_requests counter",
            'envoy_hive_requests{model="a",client="x",code="200"} 99',
            "",
        ]
    )
    assert status.tokens(metrics) == {"a": 11, "b": 7}
    assert status.tokens("") == {}


@pytest.mark.parametrize(
    ("samples", "rates"),
    [
        ([], None),
        ([Sample(1, {"g": {"a": 5}})], None),
        ([Sample(1, {"g": {"a": 5}}), Sample(3, {"g": {"a": 9}})], {"a": 2}),
        ([Sample(1, {"g": {}}), Sample(3, {"g": {"a": 9}})], {"a": 4.5}),
        ([Sample(1, {"g": {"a": 90}}), Sample(3, {"g": {"a": 4}})], {"a": 2}),
        ([Sample(1, {"g": {"a": 1}, "h": {"a": 1}}), Sample(2, {"g": {"a": 2}, "h": {"a": 4}})], {"a": 4}),
        ([Sample(1, {"g": {"a": 1}}), Sample(2, {"g": {"a": 1}, "h": {"a": 1000}})], {"a": 0}),
        ([Sample(0, {"g": {"a": 1}, "h": {"a": 7}}), Sample(1, {"g": {"a": 1}}), Sample(2, {"h": {"a": 9}})], {"a": 1}),
    ],
    ids=["none", "one", "two", "first token", "started anew", "two gateways", "a gateway more", "silent in between"],
)
def test_tokens_in_a_second(samples: list[Sample], rates: dict[str, float] | None) -> None:
    assert status.tokens_per_second(samples) == rates


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1000), st.booleans()), min_size=1, max_size=20), st.integers(1, 1000))
def test_looks_that_failed_lose_no_token(steps: list[tuple[int, bool]], last: int) -> None:
    """A counter grows whether or not it is seen; the rate is of all that it grew by until it was seen last."""
    counter, samples = 3, [Sample(0, {"g": {"a": 3}})]
    for number, (more, seen) in enumerate(steps, start=1):
        counter += more
        samples.append(Sample(number, {"g": {"a": counter}} if seen else {}))
    samples.append(Sample(len(samples), {"g": {"a": counter + last}}))
    rates = status.tokens_per_second(samples)
    assert rates is not None
    assert rates["a"] * samples[-1].time == pytest.approx(counter + last - 3)
