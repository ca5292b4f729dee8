"""The Python client against a real Hive: every call that its users know, real vLLM, random weights.

What is said means nothing: asserted are forms, counts, and what runs afterwards.
"""

import shutil
from collections.abc import Iterator
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict

from hive import (
    AnswerError,
    HiveError,
    RayHive,
    a_inference,
    a_inference_batch,
    inference,
    inference_batch,
)
from hive.local import driver
from tests.local.conftest import Sandbox, make_sandbox, tiny
from vram_agent.api import GIB, LeaseState

pytestmark = [pytest.mark.serving, pytest.mark.timeout(1200)]

UP_SECONDS = 900
PROMPTS = ["hello world", "the quick brown fox", "a lazy dog"]
LONG = "the quick brown fox jumps over the lazy dog " * 200


class Weather(BaseModel):
    """Every value is one of a few, so that random words come to an end."""

    model_config = ConfigDict(extra="forbid")

    city: Literal["Paris", "Rome"]
    sunny: bool


@pytest.fixture(scope="module")
def hive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A running Hive with one model, which the client finds by itself."""
    hive = make_sandbox(tmp_path_factory.mktemp("client"))
    # Random weights like blanks too much.
    engine = {"structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIVE_STATE_DIR", str(hive.folder))
        patch.delenv("OPENAI_BASE_URL", raising=False)
        try:
            done = hive.up({"first": tiny(aliases=["gpt-4o"], engine=engine)}, seconds=UP_SECONDS)
            assert done.returncode == 0, done.stdout + done.stderr
            yield hive
        finally:
            driver.stop(hive.where, print)
            shutil.rmtree(hive.where.ray, ignore_errors=True)


@pytest.mark.usefixtures("hive")
class TestInference:
    async def test_one_prompt(self) -> None:
        """Neither an address nor a model is named."""
        told = inference("hello world", max_tokens=8, temperature=0, ignore_eos=True)
        assert told
        assert await a_inference("hello world", max_tokens=8, temperature=0, ignore_eos=True) == told
        pieces = list(inference("hello world", max_tokens=8, temperature=0, ignore_eos=True, stream=True))
        assert len(pieces) > 1
        assert "".join(pieces) == told
        again = a_inference("hello world", max_tokens=8, temperature=0, ignore_eos=True, stream=True)
        assert [piece async for piece in again] == pieces

    async def test_many_prompts(self) -> None:
        told = [inference(prompt, max_tokens=6, temperature=0) for prompt in PROMPTS]
        assert inference_batch(PROMPTS, max_tokens=6, temperature=0) == told
        assert await a_inference_batch(PROMPTS, max_tokens=6, temperature=0) == told
        pieces = list(inference_batch(PROMPTS, max_tokens=6, temperature=0, stream=True))
        pieces += [p async for p in a_inference_batch(PROMPTS, max_tokens=6, temperature=0, stream=True)]
        for index, answer in enumerate(told):
            assert "".join(str(piece) for number, piece in pieces if number == index) == answer * 2

    async def test_structured_output_is_an_instance(self) -> None:
        assert isinstance(inference("hello", structured_output=Weather, max_tokens=200), Weather)
        assert isinstance(await a_inference("hello", structured_output=Weather, max_tokens=200), Weather)
        for answer in [
            *inference_batch(PROMPTS, structured_output=Weather, max_tokens=200),
            *await a_inference_batch(PROMPTS, structured_output=Weather, max_tokens=200),
            *(one for _, one in inference_batch(PROMPTS, structured_output=Weather, max_tokens=200, stream=True)),
        ]:
            assert isinstance(answer, Weather)

    def test_structured_output_that_is_cut_off_is_an_error_with_the_text(self) -> None:
        with pytest.raises(AnswerError, match="cut off after 2 tokens") as raised:
            inference("hello", structured_output=Weather, max_tokens=2)
        assert raised.value.text.startswith("{")

    def test_max_tokens_limits_the_answer(self) -> None:
        short, longer = (inference("hello", max_tokens=n, temperature=0, ignore_eos=True) for n in (2, 20))
        assert longer.startswith(short)
        assert len(longer) > len(short)

    def test_a_prompt_that_is_too_long_is_refused_or_shortened_and_loses_no_batch(self) -> None:
        refused, short, shortened = inference_batch([LONG, "hello", LONG], max_tokens=4)
        assert isinstance(refused, HiveError)
        assert "maximum context length" in refused.what
        assert isinstance(short, str)
        assert isinstance(shortened, HiveError)
        assert isinstance(inference(LONG, max_tokens=4, truncate=True), str)
        assert isinstance(inference(LONG, max_tokens=4, truncate=64), str)

    def test_a_model_that_nobody_has_is_an_error_that_names_those_that_serve(self) -> None:
        with pytest.raises(HiveError, match=r"`nobody`.*first"):
            inference("hello", "nobody")


class TestRayHive:
    def test_vram_state_is_typed_and_shown(self, hive: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
        ((node, state),) = RayHive().get_vram_state().items()
        assert state.node == node
        (device,) = state.devices
        (lease,) = state.leases
        assert (lease.model, lease.state, lease.bytes) == ("first", LeaseState.ACTIVE, 2560 * 2**20)
        assert device.leased == lease.bytes
        assert 0 < lease.used[device.id] <= lease.bytes
        RayHive().display_vram_state()
        assert "first (ACTIVE" in capsys.readouterr().out

    def test_a_model_that_does_not_fit_is_refused_with_the_figures(self, hive: Sandbox) -> None:
        before = hive.status()["applications"], (hive.folder / "values.yaml").read_text()
        with pytest.raises(HiveError, match=r"GiB(.|\n)*FIX: lower vram"):
            RayHive().deploy_model("huge", "./tiny", vram_weights_gb=4096)
        assert (hive.status()["applications"], (hive.folder / "values.yaml").read_text()) == before

    def test_what_can_not_start_says_why_and_is_taken_back(self, hive: Sandbox) -> None:
        before, (lease,) = (hive.folder / "values.yaml").read_text(), hive.leases("first")
        with pytest.raises(HiveError, match="no_such_quantization"):
            RayHive().deploy_model("broken", "./tiny", max_model_len=256, quantization="no_such_quantization")
        assert (hive.folder / "values.yaml").read_text() == before
        assert [one.pid for one in hive.hive.state().leases] == [lease.pid]

    def test_a_trial_gives_an_answer_and_leaves_nothing(self, hive: Sandbox) -> None:
        before = (hive.folder / "values.yaml").read_text()
        done = RayHive().deploy_model("trial", "./tiny", test_mode=True, max_num_seqs=2, max_model_len=256)
        assert done.answer
        assert (hive.folder / "values.yaml").read_text() == before
        assert [lease.model for lease in hive.hive.state().leases] == ["first"]

    def test_a_model_serves_until_it_is_shut_down(self, hive: Sandbox) -> None:
        """And the last shutdown takes what is left."""
        mine = RayHive()
        (first,) = hive.leases("first")
        done = mine.deploy_model("second", "./tiny", max_num_seqs=2, max_model_len=256, max_tokens=5)
        assert done.replicas == 1
        (lease,) = hive.leases("second")
        assert lease.bytes == done.vram < 4 * GIB
        assert isinstance(mine.inference("hello", "second"), str)
        assert isinstance(inference("hello", "second", base_url=done.base_url), str)
        with pytest.raises(HiveError, match="name one as model=: first, second"):
            mine.inference("hello")
        mine.shutdown("second")
        assert [one.pid for one in hive.hive.state().leases] == [first.pid], "the other one went on"
        mine.shutdown()
        assert not hive.hive.state().leases
        assert hive.status()["applications"] == []
        with pytest.raises(HiveError, match="no model that generates text"):
            mine.inference("hello")
