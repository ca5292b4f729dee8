"""Requests to one model with the official client: sync, and async as its twin."""

from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import openai

from hive.client import connections
from hive.client.addresses import Address
from hive.client.asking import Asking, Prompt, generative, piece
from hive.errors import HiveError

# What can be done about an answer, by its status.
MENDS = {
    400: "see the message; truncate= shortens a prompt that is too long",
    401: "give api_key, or set OPENAI_API_KEY",
    403: "ask another model, or whoever runs this Hive",
    404: "name a model that serves as model=",
    429: "ask less at once (concurrency=), or later",
}
LOOK = "look at it: hive status"


@dataclass(frozen=True)
class Session:
    """One call's way to its model. All methods raise HiveError."""

    client: openai.OpenAI
    address: Address
    model: str
    asking: Asking

    @classmethod
    def open(cls, address: Address, asking: Asking) -> Self:
        """With the model that the call names, or the only one."""
        client = connections.sync(address).with_options(max_retries=asking.max_retries)
        with _told(address):
            model = asking.model or generative(card.model_dump() for card in client.models.list())
        return cls(client, address, model, asking)

    def whole(self, prompt: Prompt) -> Any:
        """One answer."""
        with _told(self.address):
            answer = self.client.chat.completions.create(**self.asking.request(prompt, self.model))
        return self.asking.read(answer)

    def pieces(self, prompt: Prompt) -> Generator[Any, None, None]:
        """One answer as it comes."""
        if self.asking.schema is not None:
            yield self.whole(prompt)
            return
        with _told(self.address):
            request = self.asking.request(prompt, self.model)
            with self.client.chat.completions.create(**request, stream=True) as chunks:
                for chunk in chunks:
                    if text := piece(chunk):
                        yield text


@dataclass(frozen=True)
class AsyncSession:
    """The twin of `Session`."""

    client: openai.AsyncOpenAI
    address: Address
    model: str
    asking: Asking

    @classmethod
    async def open(cls, address: Address, asking: Asking) -> Self:
        """With the model that the call names, or the only one."""
        client = (await connections.asynchronous(address)).with_options(max_retries=asking.max_retries)
        with _told(address):
            model = asking.model or generative([card.model_dump() async for card in client.models.list()])
        return cls(client, address, model, asking)

    async def whole(self, prompt: Prompt) -> Any:
        """One answer."""
        with _told(self.address):
            answer = await self.client.chat.completions.create(**self.asking.request(prompt, self.model))
        return self.asking.read(answer)

    async def pieces(self, prompt: Prompt) -> AsyncGenerator[Any, None]:
        """One answer as it comes."""
        if self.asking.schema is not None:
            yield await self.whole(prompt)
            return
        with _told(self.address):
            request = self.asking.request(prompt, self.model)
            async with await self.client.chat.completions.create(**request, stream=True) as chunks:
                async for chunk in chunks:
                    if text := piece(chunk):
                        yield text


@contextmanager
def _told(address: Address) -> Iterator[None]:
    """The official client's errors as a person should hear them; they stay the cause."""
    try:
        yield
    except openai.APIConnectionError as error:
        why = error.__cause__ or error
        raise HiveError(
            f"{address.base_url} does not answer, or broke off: {why!r}", "see that it runs: hive status; and base_url"
        ) from error
    except openai.APIStatusError as error:
        body = error.body if isinstance(error.body, dict) else {}
        message = body.get("message") or error.message
        raise HiveError(f"{error.status_code}: {message}", MENDS.get(error.status_code, LOOK)) from error
    except openai.OpenAIError as error:
        raise HiveError(str(error), LOOK) from error
