"""What a batch promises, for any prompts, failures and order of answers."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from hive.client import batches
from hive.errors import HiveError


@dataclass(frozen=True)
class Prompt:
    """What becomes of it."""

    pieces: int  # each of them after so many turns of the event loop
    turns: int
    fails: bool


@dataclass
class Model:
    """Answers so, and sees how many it is asked at a time."""

    asked: list[int] = field(default_factory=list)
    failed: list[bool] = field(default_factory=list)
    now: int = 0
    most: int = 0

    async def pieces(self, numbered: tuple[int, Prompt]) -> AsyncGenerator[str, None]:
        number, prompt = numbered
        self.asked.append(number)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            for piece in range(prompt.pieces):
                for _ in range(prompt.turns):
                    await asyncio.sleep(0)
                yield f"{number}.{piece}"
            if prompt.fails:
                raise HiveError(f"{number} failed", "none")
        finally:
            self.now -= 1

    async def whole(self, numbered: tuple[int, Prompt]) -> str:
        return " ".join([piece async for piece in self.pieces(numbered)])

    def step(self, *, failed: bool) -> None:
        self.failed.append(failed)

    def check(self, prompts: list[Prompt], concurrency: int) -> None:
        assert self.asked == sorted(self.asked) == list(range(len(prompts))), "each one once, in order"
        assert self.most == min(concurrency, len(prompts))
        assert sorted(self.failed) == sorted(prompt.fails for prompt in prompts)


PROMPTS = st.lists(st.builds(Prompt, st.integers(1, 3), st.integers(1, 4), st.booleans()), max_size=12)
CONCURRENCY = st.integers(1, 6)


@given(PROMPTS, CONCURRENCY)
@settings(deadline=None)
def test_answers_and_failures_are_in_the_place_of_their_prompts(prompts: list[Prompt], concurrency: int) -> None:
    model = Model()
    answers = asyncio.run(batches.whole(model.whole, enumerate(prompts), concurrency, model.step))
    model.check(prompts, concurrency)
    assert len(answers) == len(prompts)
    for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        if prompt.fails:
            assert isinstance(answer, HiveError)
            assert answer.what == f"{number} failed"
        else:
            assert answer == " ".join(f"{number}.{piece}" for piece in range(prompt.pieces))


@given(PROMPTS, CONCURRENCY)
@settings(deadline=None)
def test_pieces_are_whole_and_in_order_for_each_prompt(prompts: list[Prompt], concurrency: int) -> None:
    model = Model()

    async def collect() -> list[tuple[int, str | HiveError]]:
        return [item async for item in batches.pieces(model.pieces, enumerate(prompts), concurrency, model.step)]

    found = asyncio.run(collect())
    model.check(prompts, concurrency)
    for number, prompt in enumerate(prompts):
        own = [piece for index, piece in found if index == number]
        if prompt.fails:
            assert isinstance(own.pop(), HiveError)
        assert own == [f"{number}.{piece}" for piece in range(prompt.pieces)]


@given(PROMPTS, CONCURRENCY, st.integers(0, 8))
@settings(deadline=None)
def test_closing_a_stream_early_leaves_nothing_under_way(prompts: list[Prompt], concurrency: int, taken: int) -> None:
    model = Model()

    async def take() -> None:
        found = batches.pieces(model.pieces, enumerate(prompts), concurrency, model.step)
        for _ in range(taken):
            if await anext(found, None) is None:
                break
        await found.aclose()
        assert model.now == 0
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(take())


def test_a_mistake_of_the_program_ends_the_batch_as_itself() -> None:
    """And no worker goes on."""
    asked = []

    async def ask(prompt: int) -> int:
        asked.append(prompt)
        await asyncio.sleep(0)
        return 1 // prompt

    async def main() -> None:
        try:
            await batches.whole(ask, [1, 0, *range(1, 99)], 2, Model().step)
        except ZeroDivisionError:
            assert len(asyncio.all_tasks()) == 1
        else:
            raise AssertionError("the error is lost")

    asyncio.run(main())
    assert len(asked) < 99
