"""The client's calls against a real HTTP server: what is sent, what comes back, retries, cancellation, discovery."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel, field_validator

import hive
from hive import AnswerError, HiveError, a_inference, a_inference_batch, inference, inference_batch
from hive.client import batches
from hive.local.run import Folders, Run
from hive.rendering import ROOT
from tests.gateway.site import wait_for
from tests.unit.hive.openai_server import CARD, OpenAIServer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    """The API that the environment names."""
    server = OpenAIServer()
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    try:
        yield server
    finally:
        server.close()


class Weather(BaseModel):
    city: Literal["Paris", "Rome"]
    degrees: int | None = None

    @field_validator("degrees")
    @classmethod
    def _above_absolute_zero(cls, value: int | None) -> int | None:
        if value is not None and value < -273:
            raise ValueError("colder than can be")
        return value


ROME = '{"city": "Rome", "degrees": 30}'


class TestOnePrompt:
    async def test_all_four_ways_give_the_same_answer(self, server: OpenAIServer) -> None:
        assert inference("say hello you", "m") == "hello you"
        assert await a_inference("say hello you", "m") == "hello you"
        assert list(inference("say hello you", "m", stream=True)) == ["hello ", "you "]
        assert [piece async for piece in a_inference("say hello you", "m", stream=True)] == ["hello ", "you "]
        assert [asked.get("stream", False) for asked in server.asked] == [False, False, True, True]

    def test_what_is_asked_for_is_what_is_sent(self, server: OpenAIServer) -> None:
        """OpenAI's parameters beside the model, vLLM's too; what was not given is not sent."""
        inference(
            "say it",
            "m",
            system="Be brief.",
            max_tokens=5,
            temperature=0.5,
            stop=["\n"],
            top_k=3,
            truncate=True,
            extra_body={"priority": 1},
        )
        assert server.asked == [
            {
                "model": "m",
                "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "say it"}],
                "max_tokens": 5,
                "temperature": 0.5,
                "stop": ["\n"],
                "top_k": 3,
                "truncate_prompt_tokens": -1,
                "truncation_side": "left",
                "priority": 1,
            }
        ]

    def test_a_prompt_may_be_messages(self, server: OpenAIServer) -> None:
        messages = [{"role": "user", "content": "say one"}, {"role": "user", "content": "say two"}]
        assert inference(messages, "m") == "two"
        assert server.asked[0] == {"model": "m", "messages": messages}

    def test_truncate_may_be_a_number(self, server: OpenAIServer) -> None:
        inference("say it", "m", truncate=100)
        assert server.asked[0]["truncate_prompt_tokens"] == 100

    def test_truncation_to_what_fits_needs_to_know_the_answers_room(self, server: OpenAIServer) -> None:
        with pytest.raises(HiveError, match="FIX: give max_tokens"):
            inference("say it", "m", truncate=True)
        assert not server.asked

    def test_a_misspelt_option_is_named(self, server: OpenAIServer) -> None:
        with pytest.raises(TypeError, match="temprature"):
            inference("say it", "m", temprature=1)  # type: ignore[call-overload]

    def test_an_answer_without_text_is_an_error_and_not_nothing(self, server: OpenAIServer) -> None:
        """A model that thinks can use up max_tokens before it says a word."""
        with pytest.raises(AnswerError, match=r"cut off after 7 tokens \(length\)"):
            inference("silent", "m")


class TestStructuredOutput:
    async def test_is_an_instance_every_way(self, server: OpenAIServer) -> None:
        expected = Weather(city="Rome", degrees=30)
        assert inference(f"say {ROME}", "m", structured_output=Weather) == expected
        assert await a_inference(f"say {ROME}", "m", structured_output=Weather) == expected
        assert inference_batch([f"say {ROME}"] * 2, "m", structured_output=Weather) == [expected] * 2
        pieces = inference_batch([f"say {ROME}"] * 2, "m", structured_output=Weather, stream=True)
        assert sorted(pieces, key=lambda piece: piece[0]) == [(0, expected), (1, expected)]
        assert list(inference(f"say {ROME}", "m", structured_output=Weather, stream=True)) == [expected]

    def test_asks_for_a_strict_schema(self, server: OpenAIServer) -> None:
        """As OpenAI wants it: every field, also one with a default, and no other; of inner models too."""

        class Trip(BaseModel):
            stops: list[Weather]

        inference('say {"stops": []}', "m", structured_output=Trip)
        sent = server.asked[0]["response_format"]
        assert sent["type"] == "json_schema"
        assert (sent["json_schema"]["name"], sent["json_schema"]["strict"]) == ("Trip", True)
        schema = sent["json_schema"]["schema"]
        for one, fields in ((schema, ["stops"]), (schema["$defs"]["Weather"], ["city", "degrees"])):
            assert one["required"] == fields
            assert one["additionalProperties"] is False

    @pytest.mark.parametrize(
        ("prompt", "what", "text"),
        [
            ('cut {"city": "Ro', "cut off after 7 tokens", '{"city": "Ro'),
            ("deny I will not say", "refused to answer: I will not say", "I will not say"),
            ('say {"city": "Oslo"}', r"is no Weather: .*(.|\n)*Oslo", '{"city": "Oslo"}'),
            ('say {"city": "Rome", "degrees": -300}', "colder than can be", '{"city": "Rome", "degrees": -300}'),
        ],
    )
    def test_another_answer_is_an_error_with_the_text(
        self, server: OpenAIServer, prompt: str, what: str, text: str
    ) -> None:
        with pytest.raises(AnswerError, match=what) as raised:
            inference(prompt, "m", structured_output=Weather)
        assert raised.value.text == text
        assert text in str(raised.value)
        assert len(server.asked) == 1, "asking again would give the same"


class TestManyPrompts:
    async def test_answers_have_the_order_of_the_prompts(self, server: OpenAIServer) -> None:
        prompts = [f"say {number}" for number in range(100)]
        expected = [str(number) for number in range(100)]
        assert inference_batch(prompts, "m") == expected
        assert await a_inference_batch(iter(prompts), "m") == expected

    async def test_a_stream_has_every_piece_with_its_prompts_number(self, server: OpenAIServer) -> None:
        prompts = ["say a b", "say c", "say d e f"]
        for pieces in (
            list(inference_batch(prompts, "m", stream=True)),
            [piece async for piece in a_inference_batch(prompts, "m", stream=True)],
        ):
            for index, prompt in enumerate(prompts):
                own = [piece for number, piece in pieces if number == index]
                assert own == [f"{word} " for word in prompt.split()[1:]]

    async def test_a_failed_prompt_has_its_error_in_its_place(self, server: OpenAIServer) -> None:
        """And the official client's error is its cause."""
        prompts = ["say a", "refused 9 400", "silent", "say b"]
        for answers in (inference_batch(prompts, "m"), await a_inference_batch(prompts, "m")):
            assert answers[0] == "a"
            assert answers[3] == "b"
            assert isinstance(answers[1], HiveError)
            assert answers[1].what == "400: not now, 400"
            assert isinstance(answers[1].__cause__, openai.BadRequestError)
            assert isinstance(answers[2], AnswerError)
        pieces = list(inference_batch(prompts, "m", stream=True))
        assert {index for index, piece in pieces if isinstance(piece, HiveError)} == {1}

    async def test_no_more_are_asked_at_a_time_than_may_be(self, server: OpenAIServer) -> None:
        batch = asyncio.create_task(a_inference_batch([f"hold {n}" for n in range(9)], "m", concurrency=3))
        await asyncio.to_thread(wait_for, "it asks", lambda: server.in_flight == 3)
        server.open()
        assert await batch == [str(n) for n in range(9)]
        assert server.most_in_flight == 3

    def test_connections_are_used_again(self, server: OpenAIServer) -> None:
        inference_batch(["say it"] * 20, "m", concurrency=2)
        assert len(server.connections) <= 2

    async def test_it_works_inside_a_running_event_loop(self, server: OpenAIServer) -> None:
        """As in a notebook."""
        assert inference_batch(["say it"], "m") == ["it"]
        assert list(inference_batch(["say it"], "m", stream=True)) == [(0, "it ")]

    def test_no_prompts_have_no_answers(self, server: OpenAIServer) -> None:
        assert inference_batch([], "m") == []
        assert list(inference_batch([], "m", stream=True)) == []

    def test_one_string_is_no_list_of_prompts(self, server: OpenAIServer) -> None:
        with pytest.raises(TypeError, match="one string"):
            inference_batch("say it", "m")

    def test_concurrency_is_at_least_one(self, server: OpenAIServer) -> None:
        with pytest.raises(HiveError, match="concurrency is 0"):
            inference_batch(["say it"], "m", concurrency=0)


class TestProgress:
    """On a terminal, in a batch that takes its time, unless it is turned off."""

    @pytest.fixture
    def shown(
        self, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> Callable[..., Coroutine[Any, Any, str]]:
        async def shown(terminal: str = "1", slow: float = 0, **options: Any) -> str:
            monkeypatch.setenv("TTY_COMPATIBLE", terminal)  # rich's variable
            monkeypatch.setattr(batches, "SLOW_SECONDS", slow)
            prompts = ["say a", "refused 9 400", "hold b"]
            batch = asyncio.create_task(a_inference_batch(prompts, "m", concurrency=1, **options))
            await asyncio.to_thread(wait_for, "it asks", lambda: len(server.asked) == 3)
            server.open()
            await batch
            return capsys.readouterr().err

        return shown

    async def test_a_bar_counts_answers_and_failures(self, shown: Callable[..., Any]) -> None:
        text = await shown()
        assert "answers (1 failed)" in text
        assert "3/3" in text

    @pytest.mark.parametrize("other", [{"terminal": "0"}, {"slow": 3600}, {"progress": False}], ids=str)
    async def test_elsewhere_nothing_is_written(self, shown: Callable[..., Any], other: dict[str, Any]) -> None:
        assert await shown(**other) == ""


class TestRetries:
    @pytest.mark.parametrize("status", [429, 503])
    async def test_a_model_that_is_not_ready_is_asked_again(self, server: OpenAIServer, status: int) -> None:
        prompt = f"refused 2 {status} 0.01"
        assert inference(prompt, "m") == "at last, after 2"
        assert len(server.asked) == 3
        assert await a_inference_batch([f"refused 1 {status} 0.02"], "m") == ["at last, after 1"]

    def test_it_waits_as_long_as_the_server_says(self, server: OpenAIServer) -> None:
        """Its own first wait would be half a second at most."""
        inference("refused 1 503 1.2", "m")
        first, second = server.times
        assert second - first >= 1.2

    def test_it_gives_up_with_what_the_server_said(self, server: OpenAIServer) -> None:
        with pytest.raises(HiveError, match="429: not now, 429\nFIX: ask less at once"):
            inference("refused 9 429 0.01", "m", max_retries=1)
        assert len(server.asked) == 2

    def test_what_is_wrong_with_the_request_is_not_sent_again(self, server: OpenAIServer) -> None:
        with pytest.raises(HiveError, match="400: not now, 400"):
            inference("refused 9 400", "m")
        assert len(server.asked) == 1

    def test_a_connection_that_breaks_is_tried_again(self, server: OpenAIServer) -> None:
        with pytest.raises(HiveError, match="does not answer, or broke off"):
            inference("broken", "m", max_retries=1)
        assert len(server.asked) == 2

    def test_a_stream_that_breaks_off_says_so(self, server: OpenAIServer) -> None:
        """What came before was given out, so it can't be asked again."""
        pieces = inference("broken", "m", stream=True)
        assert next(pieces) == "I was "
        with pytest.raises(HiveError, match="broke off"):
            next(pieces)
        assert len(server.asked) == 1


class TestCancellation:
    async def test_closing_a_stream_ends_its_request(self, server: OpenAIServer) -> None:
        with closing(inference("hold it", "m", stream=True)) as pieces:
            assert next(pieces) == "wait "
        wait_for("the server notices", lambda: server.left == 1)
        later = a_inference("hold it", "m", stream=True)
        assert await anext(later) == "wait "
        await later.aclose()
        wait_for("the server notices", lambda: server.left == 2)

    async def test_closing_the_stream_of_a_batch_ends_all_of_its_requests(self, server: OpenAIServer) -> None:
        with closing(inference_batch(["hold it"] * 5, "m", stream=True, concurrency=3)) as pieces:
            assert [next(pieces)[1] for _ in range(3)] == ["wait "] * 3
        wait_for("the server notices", lambda: server.left == 3)
        later = a_inference_batch(["hold it"] * 5, "m", stream=True, concurrency=3)
        assert [(await anext(later))[1] for _ in range(3)] == ["wait "] * 3
        await later.aclose()
        wait_for("the server notices", lambda: server.left == 6)
        assert len(server.asked) == 6

    async def test_cancelling_a_batch_ends_all_of_its_requests(self, server: OpenAIServer) -> None:
        batch = asyncio.create_task(a_inference_batch(["hold it"] * 5, "m", concurrency=3))
        await asyncio.to_thread(wait_for, "it asks", lambda: server.in_flight == 3)
        batch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await batch
        await asyncio.to_thread(wait_for, "the server notices", lambda: server.left == 3)
        assert len(server.asked) == 3

    @pytest.mark.parametrize("stream", [False, True])
    def test_an_interrupt_ends_a_batch_and_its_requests(self, server: OpenAIServer, stream: bool) -> None:
        code = f"import hive; list(hive.inference_batch(['hold it'] * 5, 'm', concurrency=3, stream={stream}))"
        process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        wait_for("it asks", lambda: server.in_flight == 3, seconds=60)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGINT, err
        assert err.rstrip().endswith("KeyboardInterrupt")
        wait_for("the server notices", lambda: server.left == 3)
        assert len(server.asked) == 3


def test_nothing_is_left_open(server: OpenAIServer) -> None:
    """Every way of asking, in more than one event loop, with Python's warnings on."""
    code = """
import asyncio, hive
async def main():
    await hive.a_inference("say it", "m")
    await hive.a_inference_batch(["say it"], "m")
    assert [piece async for piece in hive.a_inference("say it", "m", stream=True)] == ["it "]
    async for piece in hive.a_inference("hold it", "m", stream=True):
        break
hive.inference("say it", "m")
next(hive.inference("hold it", "m", stream=True))
next(hive.inference_batch(["hold it"], "m", stream=True))
hive.inference_batch(["say it"], "m")
asyncio.run(main())
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    wait_for("the server has nothing in hand", lambda: server.in_flight == 0)


class TestDiscovery:
    @pytest.fixture
    def local(self, server: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
        """A Hive that runs on this machine, and nothing in the environment."""
        monkeypatch.delenv("OPENAI_BASE_URL")
        monkeypatch.setenv("HIVE_STATE_DIR", str(tmp_path))
        where = Folders(tmp_path)
        url = server.url.removesuffix("/v1")
        (tmp_path / "values.yaml").write_text("gateway: {keysSecret: hive-keys}")
        run = Run(str(tmp_path / "values.yaml"), "", dashboard_url="", agent_url="", serve_url="", gateway_url=url)
        run.save(where)
        return where

    def test_what_is_given_comes_first(self, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
        assert inference("say it", "m", base_url=server.url, api_key="sk-given") == "it"
        assert server.headers[-1]["Authorization"] == "Bearer sk-given"

    def test_then_the_environment(self, server: OpenAIServer) -> None:
        assert inference("say it", "m") == "it"
        assert server.headers[-1]["Authorization"] == "Bearer sk-of-the-environment"

    def test_then_the_hive_of_this_machine_with_a_key_of_its_own(self, server: OpenAIServer, local: Folders) -> None:
        """A key of the environment is for somebody else."""
        local.keys.mkdir()
        (local.keys / "me").write_text("sk-local\n")
        assert inference("say it", "m") == "it"
        assert server.headers[-1]["Authorization"] == "Bearer sk-local"

    def test_where_there_is_none_it_says_how_to_get_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
        monkeypatch.setenv("HIVE_STATE_DIR", str(tmp_path))
        with pytest.raises(HiveError, match=r"no Hive is found(.|\n)*FIX: give base_url"):
            inference("say it")

    async def test_the_only_model_that_generates_text_needs_no_name(self, server: OpenAIServer) -> None:
        """Aliases and adapters are names of one model; one that embeds does not count."""
        server.cards = [
            CARD | {"id": "embedder", "model": "embedder", "tasks": ["embed"]},
            *(CARD | {"id": name, "model": "qwen", "tasks": ["generate"]} for name in ("gpt-4o", "qwen", "pirate")),
        ]
        assert inference("say it") == await a_inference("say it") == "it"
        assert inference_batch(["say it"] * 2) == ["it", "it"]
        assert {asked["model"] for asked in server.asked} == {"qwen"}

    @pytest.mark.parametrize(
        ("cards", "message"),
        [([], "no model that generates"), ([CARD, CARD | {"id": "n"}], "several models serve(.|\n)*: m, n")],
    )
    def test_otherwise_the_names_are_told(self, server: OpenAIServer, cards: list[Any], message: str) -> None:
        server.cards = cards
        with pytest.raises(HiveError, match=message):
            inference("say it")

    def test_an_address_that_is_no_api_is_named(self, server: OpenAIServer) -> None:
        with pytest.raises(HiveError, match="not as the OpenAI API does"):
            inference("page", "m")


def test_the_package_is_quick_to_import_and_all_of_it_is_there() -> None:
    heavy = {"ray", "torch", "helm_python", "openai", "rich"}
    code = f"""
import sys, json, hive
loaded = sorted({heavy!r} & set(sys.modules))
hive.inference
more = sorted({{"ray", "torch", "helm_python"}} & set(sys.modules))
everything = [getattr(hive, name) for name in hive.__all__]
print(json.dumps([loaded, more, sorted({{"ray", "torch"}} & set(sys.modules))]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[], [], []]
    assert set(hive.__all__) == set(hive._HOMES)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = hive.nothing
