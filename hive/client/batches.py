"""Many prompts at once: so many in flight and no more, each failure in its place. Knows nothing of HTTP.

A few workers take one prompt after the other, so a batch of a million is no million tasks.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterable, Iterator, Sized
from contextlib import aclosing, contextmanager, suppress
from typing import Any, Protocol, TypeVar

import anyio
from anyio.from_thread import start_blocking_portal
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hive.errors import HiveError

P = TypeVar("P")
T = TypeVar("T")
SLOW_SECONDS = 2.0
CONCURRENCY = 32


class Step(Protocol):
    """Told of each answer."""

    def __call__(self, *, failed: bool) -> None: ...


async def whole(
    ask: Callable[[P], Awaitable[T]], prompts: Iterable[P], concurrency: int, step: Step
) -> list[T | HiveError]:
    """Every answer, or the error in its place, in the order of the prompts.

    Args:
        ask: answers one prompt, or raises HiveError. Anything else that it raises ends the batch.
        concurrency: at most so many are asked at a time.
        step: told of each.
    """
    answers: dict[int, T | HiveError] = {}
    waiting = enumerate(prompts)

    async def work() -> None:
        for index, prompt in waiting:  # shared by all workers
            try:
                answers[index] = await ask(prompt)
            except HiveError as error:
                answers[index] = error
            step(failed=isinstance(answers[index], HiveError))

    await _together(work, concurrency)
    return [answers[index] for index in range(len(answers))]


async def pieces(
    ask: Callable[[P], AsyncGenerator[T, None]], prompts: Iterable[P], concurrency: int, step: Step
) -> AsyncGenerator[tuple[int, T | HiveError], None]:
    """Each piece of each answer as it comes, with the number of its prompt. Who is slow to take them slows the workers.

    Closing it ends what is under way.

    Args:
        ask: the pieces of one answer; HiveError is passed on as the last of them.
    """
    send, receive = anyio.create_memory_object_stream[tuple[int, T | HiveError]]()
    waiting = enumerate(prompts)

    async def work() -> None:
        for index, prompt in waiting:
            failed = False
            try:
                async with aclosing(ask(prompt)) as found:
                    async for piece in found:
                        await send.send((index, piece))
            except HiveError as error:
                failed = True
                await send.send((index, error))
            step(failed=failed)

    async def produce() -> None:
        with send:
            await _together(work, concurrency)

    # No task group around a `yield`: the generator may be closed in another task than began it.
    producer = asyncio.create_task(produce())
    try:
        with receive:
            async for item in receive:
                yield item
        await producer
    finally:
        producer.cancel()
        await asyncio.gather(producer, return_exceptions=True)


async def _together(work: Callable[[], Coroutine[Any, Any, None]], concurrency: int) -> None:
    """So many workers; the first that fails ends the others."""
    if concurrency < 1:
        raise HiveError(f"concurrency is {concurrency}", "give at least 1")
    try:
        async with anyio.create_task_group() as group:
            for _ in range(concurrency):
                group.start_soon(work)
    except* Exception as errors:
        raise errors.exceptions[0] from None


@contextmanager
def progress(prompts: Iterable[Any], shown: bool) -> Iterator[Step]:
    """A bar on stderr, where that is a terminal and the batch takes its time. In an event loop."""
    console = Console(stderr=True)
    done = failures = 0
    columns = (MofNCompleteColumn(), BarColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    bar = Progress(TextColumn("{task.description}"), *columns, console=console, transient=True)
    task = bar.add_task("answers", total=len(prompts) if isinstance(prompts, Sized) else None)

    def step(*, failed: bool) -> None:
        nonlocal done, failures
        done, failures = done + 1, failures + failed
        bar.update(task, completed=done, description=f"answers ({failures} failed)" if failures else "answers")

    # A notebook is no terminal to rich.
    timer = asyncio.get_running_loop().call_later(SLOW_SECONDS, bar.start) if shown and console.is_terminal else None
    try:
        yield step
    finally:
        if timer is not None:
            timer.cancel()
            bar.stop()


def run(work: Callable[[], Awaitable[T]]) -> T:
    """Run it in a thread with an event loop of its own, so that it works inside a running loop (a notebook) too. An
    interrupt (Ctrl-C) ends what is under way."""
    with start_blocking_portal() as portal:
        return portal.call(work)


def iterate(make: Callable[[], AsyncGenerator[T, None]]) -> Generator[T, None, None]:
    """The same for what comes piece by piece. Closing it ends what is under way."""
    send, receive = anyio.create_memory_object_stream[T]()

    async def pump() -> None:  # one task from beginning to end, so that an interrupt meets it in any state
        with send:
            async with aclosing(make()) as items:
                async for item in items:
                    await send.send(item)

    with receive, start_blocking_portal() as portal:
        pumping = portal.start_task_soon(pump)
        with suppress(anyio.EndOfStream):
            while True:
                yield portal.call(receive.receive)
        pumping.result()
