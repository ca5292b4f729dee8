"""Asks Ray Serve where the replicas are, reads the keys, and keeps Envoy's files true to both."""

import asyncio
import json
import logging
import os
from typing import TYPE_CHECKING, Any

import aiohttp

from gateway import envoy, keys
from gateway.catalog import Config, Json
from gateway.replicas import Address, addresses
from gateway.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)
REPLICAS = "replicas.json"
TIMEOUT = aiohttp.ClientTimeout(total=10)
ASKING = (OSError, aiohttp.ClientError, TimeoutError, json.JSONDecodeError)


class Discovery:
    """What is known now."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.config = Config(models={}, allowed={})
        self.cards: dict[str, list[Json]] = {}
        self.details: Json = {"applications": {}}  # what Ray Serve said last
        self._known: dict[str, list[Address]] = {}
        self._asked: dict[str, Address] = {}  # whose cards these are
        self._written: dict[Path, str] = {}
        self._trouble = ""

    @property
    def serve_answers(self) -> bool:
        """Whether the last look found Ray Serve."""
        return not self._trouble

    def prepare(self) -> None:
        """Everything that Envoy wants to find when it starts."""
        self.config = Config.model_validate_json((self.settings.config / "gateway.json").read_text())
        if not (self.settings.run / REPLICAS).exists():  # an Envoy that runs keeps those that it knows
            self._write(REPLICAS, envoy.replicas({}))
        if self.settings.keys is not None:
            self._write("keys.json", envoy.keys(keys.read(self.settings.keys)))

    async def run(self) -> None:
        """Look for ever. What fails is said once, and what was known stays."""
        async with aiohttp.ClientSession(timeout=TIMEOUT) as http:
            while True:
                try:
                    await self.look(http)
                    self._say("")
                except ASKING as error:  # not its repr: that of an HTTP error has the time in it
                    what = f"{type(error).__name__}: {error}"
                    self._say(f"Ray Serve can't be asked, the replicas stay as they are known: {what}")
                except Exception:
                    log.exception("a look failed; what was known stays")
                await asyncio.sleep(self.settings.period)

    async def look(self, http: aiohttp.ClientSession) -> None:
        """One look at the files and at Ray Serve.

        Raises:
            OSError, aiohttp.ClientError, TimeoutError, JSONDecodeError: Ray Serve does not answer.
        """
        self.prepare()
        async with http.get(f"{self.settings.dashboard}/api/serve/applications/", headers=self._token()) as answer:
            answer.raise_for_status()
            details = await answer.json()
        if details.get("target_groups") is None:  # Serve has no controller now; replicas live without it
            return
        self.details = details
        found = self._known = addresses(details, self._known)
        serving = {model: found[model] for model in self.config.models if found.get(model)}
        self._write(REPLICAS, envoy.replicas(serving))
        await asyncio.gather(*(self._ask(http, model, replicas) for model, replicas in serving.items()))
        for model in self.cards.keys() - serving.keys():
            del self.cards[model], self._asked[model]

    async def _ask(self, http: aiohttp.ClientSession, model: str, replicas: list[Address]) -> None:
        """The cards of a model, from one of its replicas, once."""
        if self._asked.get(model) in replicas:
            return
        host, port = replicas[0]
        try:
            async with http.get(f"http://{host}:{port}/models/{model}/v1/models") as answer:
                answer.raise_for_status()
                self.cards[model] = (await answer.json())["data"]
                self._asked[model] = replicas[0]
        except (*ASKING, KeyError, TypeError):
            log.warning("%s: its replica at %s:%d does not say what it serves", model, host, port)

    def _token(self) -> dict[str, str]:
        if self.settings.token_file is None:
            return {}
        return {"Authorization": f"Bearer {self.settings.token_file.read_text().strip()}"}

    def _write(self, name: str, content: dict[str, Any]) -> None:
        """Replace a file whole, where it changed: Envoy reads it at that moment."""
        path, text = self.settings.run / name, json.dumps(content)
        if self._written.get(path) == text:
            return
        fresh = path.with_name(f".{path.name}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        fresh.rename(path)
        self._written[path] = text

    def _say(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.log(logging.WARNING if trouble else logging.INFO, trouble or "Ray Serve answers again")
        self._trouble = trouble
