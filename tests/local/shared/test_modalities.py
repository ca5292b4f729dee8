"""Every kind of model behind the OpenAI API, with the official client and with LangChain; one address.

The weights are random, so what is said means nothing: asserted are forms, counts, and what changes an answer.
"""

import base64
import io
import json
import math
import os
import signal
import struct
import wave
from collections.abc import Callable
from typing import Any, Literal

import httpx
import langchain_openai
import openai
import psutil
import pytest
from PIL import Image
from pydantic import BaseModel, ConfigDict, SecretStr

from tests.local.conftest import Json, Sandbox, engine_of, wait_for
from tests.local.shared.conftest import KEY, LENGTH, MAX_TOKENS, MODELS, NAMES

pytestmark = [pytest.mark.serving, pytest.mark.timeout(1500)]

HEADERS = {"Authorization": f"Bearer {KEY}"}
HELLO: Any = [{"role": "user", "content": "hello world"}]
# Longer than any of these models.
LONG = "the quick brown fox jumps over the lazy dog " * 200


@pytest.fixture(scope="module")
def address(hive: Sandbox) -> str:
    """The one address of all models; /v1 and vLLM's other endpoints lie under it."""
    return hive.hive.run.gateway_url


@pytest.fixture(scope="module")
def client(address: str) -> openai.OpenAI:
    """The official client."""
    return openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0, timeout=120)


@pytest.fixture(scope="module")
def post(address: str) -> Callable[..., Json]:
    """An endpoint that OpenAI does not have."""

    def post(path: str, model: str, **body: Any) -> Json:
        answer = httpx.post(f"{address}{path}", json={"model": model} | body, headers=HEADERS, timeout=120)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    return post


Client = openai.OpenAI
Post = Callable[..., Json]


class Weather(BaseModel):
    """What the model is made to say. Every value is one of a few, so that random words come to an end."""

    model_config = ConfigDict(extra="forbid")

    city: Literal["Paris", "Rome"]
    sunny: bool


NO_LOOPS = 2.0  # a frequency_penalty under which an endless row of tabs comes to an end
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": Weather.model_json_schema()}}


class TestLanguage:
    @pytest.mark.parametrize("name", NAMES["language"])
    def test_chat_answers_to_every_name(self, client: Client, name: str) -> None:
        answer = client.chat.completions.create(model=name, messages=HELLO, max_tokens=5)
        assert answer.choices[0].message.role == "assistant"
        assert answer.choices[0].finish_reason in ("length", "stop")
        assert answer.usage is not None
        assert 0 < answer.usage.completion_tokens <= 5
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens

    @pytest.mark.parametrize(("asked", "given"), [(openai.omit, MAX_TOKENS), (40, 40)])
    def test_max_tokens_of_the_values_is_a_default_and_no_cap(self, client: Client, asked: Any, given: int) -> None:
        answer = client.chat.completions.create(
            model="language", messages=HELLO, max_tokens=asked, extra_body={"ignore_eos": True}
        )
        assert answer.usage is not None
        assert answer.usage.completion_tokens == given

    def test_a_stream_ends_with_its_usage(self, client: Client) -> None:
        chunks = list(
            client.chat.completions.create(
                model="language", messages=HELLO, max_tokens=6, stream=True, stream_options={"include_usage": True}
            )
        )
        assert len(chunks) > 3, "the answer came in one piece"
        assert chunks[-2].choices[0].finish_reason in ("length", "stop")
        assert chunks[-1].choices == []
        assert chunks[-1].usage is not None
        assert 0 < chunks[-1].usage.completion_tokens <= 6

    def test_completions_with_logprobs(self, client: Client) -> None:
        answer = client.completions.create(model="gpt-4o", prompt="hello", max_tokens=3, logprobs=2)
        logprobs = answer.choices[0].logprobs
        assert logprobs is not None
        assert logprobs.token_logprobs is not None
        assert 1 <= len(logprobs.token_logprobs) <= 3
        assert all(value is not None and value <= 0 for value in logprobs.token_logprobs)

    def test_chat_with_logprobs(self, client: Client) -> None:
        answer = client.chat.completions.create(
            model="language", messages=HELLO, max_tokens=3, logprobs=True, top_logprobs=2
        )
        logprobs = answer.choices[0].logprobs
        assert logprobs is not None
        assert logprobs.content
        for token in logprobs.content:
            assert token.logprob <= 0
            assert len(token.top_logprobs) == 2

    def test_responses(self, client: Client) -> None:
        answer = client.responses.create(model="language", input="hello world", max_output_tokens=16)
        assert answer.status in ("completed", "incomplete")
        assert answer.usage is not None
        assert 0 < answer.usage.output_tokens <= 16
        events = [event.type for event in client.responses.create(model="language", input="hello", stream=True)]
        assert events[0] == "response.created"
        assert events[-1] in ("response.completed", "response.incomplete")

    def test_the_chat_template_is_that_of_the_values(self, post: Post) -> None:
        tokens = post("/tokenize", "language", messages=HELLO)["tokens"]
        prompt = post("/detokenize", "language", tokens=tokens)["prompt"]
        assert prompt == "user: hello world\nassistant: "

    def test_tokens_go_both_ways(self, post: Post) -> None:
        found = post("/tokenize", "gpt-4o", prompt="hello, quick fox")
        assert found["count"] == len(found["tokens"]) > 1
        assert found["max_model_len"] == LENGTH
        assert post("/detokenize", "gpt-4o", tokens=found["tokens"])["prompt"] == "hello, quick fox"

    def test_the_adapter_changes_the_answer_and_its_absence_does_not(self, client: Client) -> None:
        def say(name: str) -> str:
            answer = client.completions.create(model=name, prompt="hello world", max_tokens=12, temperature=0)
            return answer.choices[0].text

        plain = say("language")
        assert say("hive/pirate") != plain
        assert say("gpt-4o") == say("language") == plain

    @pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}], ids=str)
    def test_a_tool_is_called_with_arguments_of_its_schema(self, client: Client, choice: Any) -> None:
        answer = client.chat.completions.create(
            model="language",
            messages=HELLO,
            tools=[TOOL],
            tool_choice=choice,
            max_tokens=300,
            frequency_penalty=NO_LOOPS,
        )
        assert answer.choices[0].message.tool_calls
        for call in answer.choices[0].message.tool_calls:
            assert call.type == "function"
            assert call.function.name == "weather"
            Weather.model_validate_json(call.function.arguments)

    def test_a_response_format_is_kept(self, client: Client) -> None:
        schema: Any = {"name": "weather", "schema": Weather.model_json_schema(), "strict": True}
        answer = client.chat.completions.create(
            model="language",
            messages=HELLO,
            max_tokens=200,
            response_format={"type": "json_schema", "json_schema": schema},
        )
        Weather.model_validate_json(answer.choices[0].message.content or "")

    def test_an_answer_is_parsed_into_a_pydantic_model(self, client: Client) -> None:
        answer = client.chat.completions.parse(model="gpt-4o", messages=HELLO, max_tokens=200, response_format=Weather)
        assert isinstance(answer.choices[0].message.parsed, Weather)


class TestTooLongPrompts:
    def test_lose_their_beginning_and_leave_room_for_the_answer(self, client: Client) -> None:
        for limit, room in ((openai.omit, MAX_TOKENS), (40, 40)):
            answer = client.chat.completions.create(
                model="language", messages=[{"role": "user", "content": LONG}], max_tokens=limit
            )
            assert answer.usage is not None
            assert answer.usage.prompt_tokens == LENGTH - room

    def test_keep_their_end(self, client: Client) -> None:
        texts = [
            client.completions.create(model="language", prompt=begin + LONG, max_tokens=8).choices[0].text
            for begin in ("", "hello hello hello ")
        ]
        assert texts[0] == texts[1]

    def test_are_truncated_for_responses_too(self, client: Client) -> None:
        answer = client.responses.create(model="language", input=LONG)
        assert answer.usage is not None
        assert answer.usage.input_tokens == LENGTH - MAX_TOKENS

    def test_are_refused_with_the_numbers_where_the_request_says_so(self, client: Client) -> None:
        with pytest.raises(openai.BadRequestError, match=rf"maximum context length.*{LENGTH}"):
            client.responses.create(model="language", input=LONG, truncation="disabled")

    def test_are_refused_with_the_numbers_where_the_model_does_not_truncate(self, client: Client) -> None:
        text = "hello world " * 300
        with pytest.raises(openai.BadRequestError, match=rf"maximum context length is {LENGTH}.*[0-9]{{3}}"):
            client.embeddings.create(model="embedding", input=text)
        with pytest.raises(openai.BadRequestError, match=rf"maximum context length is {LENGTH}.*[0-9]{{3}}"):
            client.chat.completions.create(model="vision", messages=[{"role": "user", "content": text}])


class TestEmbedding:
    def test_equal_texts_have_equal_directions_and_others_do_not(self, client: Client) -> None:
        texts = ["hello world", "a lazy dog", "hello world"]
        found = client.embeddings.create(model="embedding", input=texts)
        first, other, again = (one.embedding for one in found.data)
        assert len(first) == 128
        assert cosine(first, first) == pytest.approx(1)
        assert cosine(first, again) == pytest.approx(1, abs=1e-3)
        assert cosine(first, other) < 0.99
        assert found.usage.prompt_tokens > 0

    def test_documents_are_ranked(self, post: Post) -> None:
        documents = ["a lazy dog", "hello world", "the fox"]
        for path in ("/rerank", "/v1/rerank"):
            results = post(path, "embedding", query="hello world", documents=documents)["results"]
            assert sorted(one["index"] for one in results) == [0, 1, 2]
            assert results[0]["index"] == 1, "the query itself"
            assert [one["relevance_score"] for one in results] == sorted(
                (one["relevance_score"] for one in results), reverse=True
            )

    def test_pairs_are_scored(self, post: Post) -> None:
        for path in ("/score", "/v1/score"):
            found = post(path, "embedding", text_1="hello world", text_2=["hello world", "a lazy dog"])
            same, other = (one["score"] for one in found["data"])
            assert same == pytest.approx(1, abs=1e-2)
            assert other < same


def cosine(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True)) / math.hypot(*left) / math.hypot(*right)


@pytest.mark.parametrize("name", NAMES["vision"])
def test_a_picture_is_taken_and_counts_as_tokens(client: Client, name: str) -> None:
    def ask(*more: Json) -> int:
        content: Any = [{"type": "text", "text": "hello"}, *more]
        answer = client.chat.completions.create(
            model=name, messages=[{"role": "user", "content": content}], max_tokens=4
        )
        assert answer.usage is not None
        assert answer.usage.completion_tokens > 0
        return answer.usage.prompt_tokens

    picture = {"type": "image_url", "image_url": {"url": data_url()}}
    # 112 x 84 pixels in squares of 28, and a mark at each end.
    assert ask(picture) == ask() + 4 * 3 + 2


def data_url() -> str:
    """A PNG."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize((112, 84)).convert("RGB").save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


@pytest.mark.parametrize("name", NAMES["audio"])
def test_a_recording_is_transcribed(client: Client, name: str) -> None:
    sound = ("tone.wav", wav(), "audio/wav")
    plain = client.audio.transcriptions.create(model=name, file=sound, language="en")
    assert isinstance(plain.text, str)
    chunks = list(client.audio.transcriptions.create(model=name, file=sound, language="en", stream=True))
    assert len(chunks) > 1


def test_a_recording_for_a_model_that_nobody_has_is_a_404(client: Client) -> None:
    with pytest.raises(openai.NotFoundError):
        client.audio.transcriptions.create(model="nobody", file=("tone.wav", wav(), "audio/wav"))


def wav(seconds: float = 1, rate: int = 16000) -> bytes:
    """A tone of 440 Hz."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        tone = (round(8000 * math.sin(2 * math.pi * 440 * i / rate)) for i in range(int(seconds * rate)))
        sound.writeframes(b"".join(struct.pack("<h", value) for value in tone))
    return file.getvalue()


CARDS: dict[str, tuple[list[str], list[str], str, int]] = {
    "language": (["text"], ["text"], "generate", LENGTH),
    "embedding": (["text"], ["embedding"], "embed", LENGTH),
    "vision": (["text", "image"], ["text"], "generate", LENGTH),
    "audio": (["audio"], ["text"], "transcription", 448),
}


@pytest.mark.parametrize("model", MODELS)
def test_every_name_has_a_card_that_says_what_the_model_takes_and_gives(client: Client, model: str) -> None:
    takes, gives, task, length = CARDS[model]
    listed = {card.id: card for card in client.models.list()}
    assert set(listed) == {name for names in NAMES.values() for name in names}
    for name in NAMES[model]:
        card = client.models.retrieve(name).model_dump()
        assert card == listed[name].model_dump()
        assert (card["input_modalities"], card["output_modalities"]) == (takes, gives)
        assert task in card["tasks"]
        assert card["max_model_len"] == length


def test_a_card_of_a_model_that_nobody_has_is_a_404(client: Client) -> None:
    with pytest.raises(openai.NotFoundError, match="nobody"):
        client.models.retrieve("nobody")


class TestLangChain:
    @pytest.fixture
    def chat(self, address: str) -> langchain_openai.ChatOpenAI:
        return langchain_openai.ChatOpenAI(
            model="gpt-4o", base_url=f"{address}/v1", api_key=SecretStr(KEY), max_retries=0
        )

    def test_chat(self, chat: langchain_openai.ChatOpenAI) -> None:
        answer = chat.invoke("hello world")
        assert isinstance(answer.content, str)
        assert answer.usage_metadata is not None
        assert 0 < answer.usage_metadata["output_tokens"] <= MAX_TOKENS

    def test_a_stream(self, chat: langchain_openai.ChatOpenAI) -> None:
        assert len(list(chat.stream("hello world"))) > 3

    def test_structured_output(self, chat: langchain_openai.ChatOpenAI) -> None:
        roomy = chat.model_copy(update={"max_tokens": 300, "frequency_penalty": NO_LOOPS})
        assert isinstance(roomy.with_structured_output(Weather, method="json_schema").invoke("hello"), Weather)
        assert isinstance(roomy.with_structured_output(Weather, method="function_calling").invoke("hello"), Weather)

    def test_embeddings(self, address: str) -> None:
        embeddings = langchain_openai.OpenAIEmbeddings(
            model="embedding",
            base_url=f"{address}/v1",
            api_key=SecretStr(KEY),
            check_embedding_ctx_length=False,  # it would send tokens of OpenAI's own tokenizer
        )
        first, other = embeddings.embed_documents(["hello world", "a lazy dog"])
        assert cosine(first, embeddings.embed_query("hello world")) == pytest.approx(1, abs=1e-3)
        assert cosine(first, other) < 0.99


def test_an_open_stream_is_told_of_its_engines_death_and_ends(hive: Sandbox, address: str) -> None:
    """The last test: it costs the model its replica."""
    (lease,) = hive.leases("language")
    engine = engine_of(lease)  # before the stream: a quick engine has all its tokens ready within a second
    body = {"model": "language", "prompt": "hello", "max_tokens": 500, "ignore_eos": True, "stream": True}
    with httpx.stream("POST", f"{address}/v1/completions", json=body, headers=HEADERS, timeout=60) as answer:
        events = (line.removeprefix("data: ") for line in answer.iter_lines() if line)
        assert json.loads(next(events))["choices"]
        os.kill(engine, signal.SIGKILL)
        *_, error, done = events  # a broken connection would raise
    assert "EngineCore" in json.loads(error)["error"]["message"]
    assert done == "[DONE]"
    wait_for("the replica ends", lambda: not psutil.pid_exists(lease.pid), seconds=20)
