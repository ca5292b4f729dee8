"""The calls: ask one prompt or many, whole or as it comes, sync or async. Twins over one core."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Coroutine, Generator, Iterable
from contextlib import aclosing
from functools import partial
from typing import Any, Literal, Unpack, overload

import anyio.to_thread
from pydantic import BaseModel

from hive.client import addresses, batches
from hive.client.addresses import Address
from hive.client.asking import Asking, Model, Options, Prompt
from hive.client.batches import CONCURRENCY
from hive.client.sessions import AsyncSession, Session
from hive.errors import HiveError


class Inference(ABC):
    """Asks the models behind one address.

    What the calls have in common:

    - `prompt` is a question, or OpenAI's list of messages. `model` None: the only one that generates text.
    - `structured_output`, a pydantic class, makes the answer an instance of it.
    - `stream=True` gives an iterator of pieces; closing it ends the request. An instance is one piece.
    - Everything else is in `Options`: max_tokens, sampling, truncation, another address, timeout, retries.
    - They raise HiveError, which says what to do, and AnswerError with the text where a model answered otherwise than
      asked. The official client's own error is the cause.

    Of many prompts at most `concurrency` are asked at a time. A prompt that fails has the HiveError in its place, and
    the others go on. A bar shows how far a long batch is, on a terminal, unless `progress` is False. In a stream each
    piece comes with the number of its prompt.
    """

    @abstractmethod
    def _find(self, base_url: str | None, api_key: str | None) -> Address:
        """Where to ask.

        Raises:
            HiveError: nowhere.
        """

    @overload
    def inference(
        self, prompt: Prompt, model: str | None = None, *, stream: Literal[False] = False, **options: Unpack[Options]
    ) -> str: ...
    @overload
    def inference(
        self, prompt: Prompt, model: str | None = None, *, structured_output: type[Model], **options: Unpack[Options]
    ) -> Model: ...
    @overload
    def inference(
        self, prompt: Prompt, model: str | None = None, *, stream: Literal[True], **options: Unpack[Options]
    ) -> Generator[str, None, None]: ...
    @overload
    def inference(
        self,
        prompt: Prompt,
        model: str | None = None,
        *,
        structured_output: type[Model],
        stream: Literal[True],
        **options: Unpack[Options],
    ) -> Generator[Model, None, None]: ...
    def inference(
        self,
        prompt: Prompt,
        model: str | None = None,
        *,
        structured_output: type[BaseModel] | None = None,
        stream: bool = False,
        **options: Unpack[Options],
    ) -> Any:
        """One answer."""
        asking = Asking.of(structured_output, model, options)
        return self._pieces(asking, prompt) if stream else self._whole(asking, prompt)

    @overload
    def a_inference(
        self, prompt: Prompt, model: str | None = None, *, stream: Literal[False] = False, **options: Unpack[Options]
    ) -> Coroutine[Any, Any, str]: ...
    @overload
    def a_inference(
        self, prompt: Prompt, model: str | None = None, *, structured_output: type[Model], **options: Unpack[Options]
    ) -> Coroutine[Any, Any, Model]: ...
    @overload
    def a_inference(
        self, prompt: Prompt, model: str | None = None, *, stream: Literal[True], **options: Unpack[Options]
    ) -> AsyncGenerator[str, None]: ...
    @overload
    def a_inference(
        self,
        prompt: Prompt,
        model: str | None = None,
        *,
        structured_output: type[Model],
        stream: Literal[True],
        **options: Unpack[Options],
    ) -> AsyncGenerator[Model, None]: ...
    def a_inference(
        self,
        prompt: Prompt,
        model: str | None = None,
        *,
        structured_output: type[BaseModel] | None = None,
        stream: bool = False,
        **options: Unpack[Options],
    ) -> Any:
        """`inference` to await; with stream=True to loop over by `async for`, without an await before it."""
        asking = Asking.of(structured_output, model, options)
        return self._a_pieces(asking, prompt) if stream else self._a_whole(asking, prompt)

    @overload
    def inference_batch(
        self,
        prompts: Iterable[Prompt],
        model: str | None = None,
        *,
        stream: Literal[False] = False,
        concurrency: int = CONCURRENCY,
        progress: bool = True,
        **options: Unpack[Options],
    ) -> list[str | HiveError]: ...
    @overload
    def inference_batch(
        self,
        prompts: Iterable[Prompt],
        model: str | None = None,
        *,
        structured_output: type[Model],
        concurrency: int = CONCURRENCY,
        progress: bool = True,
        **options: Unpack[Options],
    ) -> list[Model | HiveError]: ...
    @overload
    def inference_batch(
        self,
        prompts: Iterable[Prompt],
        model: str | None = None,
        *,
        stream: Literal[True],
        concurrency: int = CONCURRENCY,
        progress: bool = True,
        **options: Unpack[Options],
    ) -> Generator[tuple[int, str | HiveError], None, None]: ...
    @overload
    def inference_batch(
        self,
        prompts: Iterable[Prompt],
        model: str | None = None,
        *,
        structured_output: type[Model],
        stream: Literal[True],
        concurrency: int = CONCURRENCY,
        progress: bool = True,
        **options: Unpack[Options],
    ) -> Generator[tuple[int, Model | HiveError], None, None]: ...
    def inference_batch(
        self,
        prompts: Iterable[Prompt],
        model: str | None = None,
        *,
        structured_output: type[BaseModel] | None = None,
        stream: bool = False,
        concurrency: int = CONCURRENCY,
        progress: bool = True,
        **options: Unpack[Options],
    ) -> Any:
        """Every answer, in the order of the prompts. It works inside a running event loop (a notebook) too."""
        # A list, so that the caller's own iterator runs in the caller's thread.
        asked = Asking.of(structured_output, model, options), list(_several(prompts)), concurrency, progress
        if stream:
            return batches.iterate(partial(self._a_batch_pieces, *asked))
        return batches.run(partial(self._a_batch, *asked))

    @overload
    def a_inference_batch(
        self,
        prompts: Iterable[Prompt],
        model: str | None = None,
        *,
        stream: Literal[False] = False,
        concurrency: int = CONCURRENCY,
        progress: bool = True,
        **options: Unpack[Options],
    ) -> Coroutine[Any, Any, list[str | HiveError]]: ...
    @overload
    def a_inference_batch(
        self,
        prompts: Iterable[Prompt],
        model: str | None = None,
        *,
        structured_output: type[Model],
        concurrency: int = CONCURRENCY,
        progress: bool = True,
        **options: Unpack[Options],
    ) -> Coroutine[Any, Any, list[Model | HiveError]]: ...
    @overload
    def a_inference_batch(
        self,
        prompts: Iterable[Prompt],
        model: str | None = None,
        *,
        stream: Literal[True],
        concurrency: int = CONCURRENCY,
        progress: bool = True,
        **options: Unpack[Options],
    ) -> AsyncGenerator[tuple[int, str | HiveError], None]: ...
    @overload
    def a_inference_batch(
        self,
        prompts: Iterable[Prompt],
        model: str | None = None,
        *,
        structured_output: type[Model],
        stream: Literal[True],
        concurrency: int = CONCURRENCY,
        progress: bool = True,
        **options: Unpack[Options],
    ) -> AsyncGenerator[tuple[int, Model | HiveError], None]: ...
    def a_inference_batch(
        self,
        prompts: Iterable[Prompt],
        model: str | None = None,
        *,
        structured_output: type[BaseModel] | None = None,
        stream: bool = False,
        concurrency: int = CONCURRENCY,
        progress: bool = True,
        **options: Unpack[Options],
    ) -> Any:
        """`inference_batch` to await; with stream=True to loop over by `async for`, without an await before it."""
        asked = Asking.of(structured_output, model, options), _several(prompts), concurrency, progress
        return self._a_batch_pieces(*asked) if stream else self._a_batch(*asked)

    # -- over one core -----------------------------------------------------------------------------------------------

    def _whole(self, asking: Asking, prompt: Prompt) -> Any:
        return Session.open(self._find(asking.base_url, asking.api_key), asking).whole(prompt)

    def _pieces(self, asking: Asking, prompt: Prompt) -> Generator[Any, None, None]:
        yield from Session.open(self._find(asking.base_url, asking.api_key), asking).pieces(prompt)

    async def _a_open(self, asking: Asking) -> AsyncSession:
        # In a thread, because the way to a cluster is opened by that.
        address = await anyio.to_thread.run_sync(self._find, asking.base_url, asking.api_key)
        return await AsyncSession.open(address, asking)

    async def _a_whole(self, asking: Asking, prompt: Prompt) -> Any:
        return await (await self._a_open(asking)).whole(prompt)

    async def _a_pieces(self, asking: Asking, prompt: Prompt) -> AsyncGenerator[Any, None]:
        async with aclosing((await self._a_open(asking)).pieces(prompt)) as pieces:
            async for piece in pieces:
                yield piece

    async def _a_batch(self, asking: Asking, prompts: Iterable[Prompt], concurrency: int, progress: bool) -> Any:
        session = await self._a_open(asking)
        with batches.progress(prompts, progress) as step:
            return await batches.whole(session.whole, prompts, concurrency, step)

    async def _a_batch_pieces(
        self, asking: Asking, prompts: Iterable[Prompt], concurrency: int, progress: bool
    ) -> AsyncGenerator[Any, None]:
        session = await self._a_open(asking)
        with batches.progress(prompts, progress) as step:
            async with aclosing(batches.pieces(session.pieces, prompts, concurrency, step)) as pieces:
                async for piece in pieces:
                    yield piece


class _Anywhere(Inference):
    """The Hive that is found."""

    def _find(self, base_url: str | None, api_key: str | None) -> Address:
        return addresses.find(base_url, api_key)


def _several(prompts: Iterable[Prompt]) -> Iterable[Prompt]:
    if isinstance(prompts, str):
        raise TypeError("prompts is one string; give a list of prompts, or call inference")
    return prompts


_anywhere = _Anywhere()
inference = _anywhere.inference
a_inference = _anywhere.a_inference
inference_batch = _anywhere.inference_batch
a_inference_batch = _anywhere.a_inference_batch
