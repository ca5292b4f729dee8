"""What is computed from measured answers, and how errors are counted."""

import math

import httpx
import numpy
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive.bench.figures import quantile, result
from hive.bench.load import UNFINISHED, Answer, Failure, Load, kind, prompts

LOAD = Load(model="m", requests=4, concurrency=2, input_tokens=8, output_tokens=5, max_seconds=60)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_quantiles_are_numpys(values: list[float], share: float) -> None:
    assert quantile(values, share) == pytest.approx(float(numpy.quantile(values, share)))


def test_nothing_has_no_quantile() -> None:
    assert math.isnan(quantile([], 0.5))


def test_all_figures_of_a_run() -> None:
    answers = [Answer(first=0.1, last=0.5, input_tokens=8, output_tokens=5), Answer(0.3, 1.1, 8, 5)]
    errors = [Failure(UNFINISHED), Failure("429 rate_limit_exceeded")]
    found = result(LOAD, ["here"], [*answers, *errors], seconds=2.0)
    assert (found.answered, found.errors) == (2, {UNFINISHED: 1, "429 rate_limit_exceeded": 1})
    assert (found.input_tokens, found.output_tokens) == (16, 10)
    assert (found.output_tokens_per_second, found.requests_per_second) == (5.0, 1.0)
    assert found.time_to_first_token is not None
    assert found.time_to_first_token.p50 == pytest.approx(200)
    assert found.inter_token is not None
    assert found.inter_token.p50 == pytest.approx(150)  # 0.1 and 0.2 s a token
    assert found.latency is not None
    assert found.latency.p99 == pytest.approx(1094)


def test_without_answers_there_are_no_times() -> None:
    found = result(LOAD, [], [Failure("503 model_not_ready")], seconds=1.0)
    assert (found.time_to_first_token, found.inter_token, found.latency) == (None, None, None)
    assert found.output_tokens_per_second == 0


def test_an_answer_of_one_token_has_no_time_between_tokens() -> None:
    found = result(LOAD, [], [Answer(0.1, 0.1, 8, 1)], seconds=1.0)
    assert found.inter_token is None
    assert found.time_to_first_token is not None


def test_no_two_prompts_begin_alike_not_even_of_two_runs() -> None:
    long = LOAD.model_copy(update={"input_tokens": 64, "requests": 50})
    vocabulary = list(range(40))  # few, as a tiny model has
    asked = prompts(vocabulary, long) + prompts(vocabulary, long)
    assert {len(prompt) for prompt in asked} == {64}
    assert len({tuple(prompt[:16]) for prompt in asked}) == 102, "a block of vLLM's prefix cache"


def test_errors_are_counted_by_what_they_are() -> None:
    request = httpx.Request("POST", "http://gateway")
    response = httpx.Response(503, request=request)
    body = {"code": "model_not_ready", "message": "starts"}
    assert kind(openai.InternalServerError("starts", response=response, body=body)) == "503 model_not_ready"
    assert kind(openai.APIStatusError("?", response=response, body=None)) == "503"
    assert kind(openai.APIConnectionError(request=request)) == "APIConnectionError"
    assert kind(openai.APIError("died", request, body={"code": "engine_died"})) == "APIError engine_died"
    assert kind(httpx.RemoteProtocolError("closed")) == "RemoteProtocolError"
