"""The order of a run: what is up when, so that 24 GiB hold it, and which target is measured when."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import psutil

from benchmarks.serving_speed.cases import ANSWER, GEMMA, GEMMA_PLAN, MIX_PLAN, QUICK_PLAN, TINY, TINY_PLAN, Case, Plan
from benchmarks.serving_speed.engines import Engine, engines
from benchmarks.serving_speed.figures import BARE, DIRECT, GATEWAY, STOCK, Measured
from benchmarks.serving_speed.load import Load, Worker
from benchmarks.serving_speed.targets import Bare, Hive, Server, Stock, direct_url, gateway_url
from hive.local.target import LocalHive
from hive.rendering import render
from vram_agent.api import GIB, human

Report = Callable[[str], None]
Urls = Mapping[str, Mapping[str, str]]  # target -> model -> OpenAI base URL
T = TypeVar("T")
WARM_UP_REQUESTS = 8
STOCK_GEMMA_BYTES = 8 * GIB  # less free memory than this, and Ray would kill what runs


class Bench:
    """One run. A context manager: what it started ends with the block."""

    def __init__(self, scratch: Path, models: Path, report: Report) -> None:
        self._scratch = scratch
        self._models = models
        self._report = report
        self._stack = ExitStack()
        self.measured: list[Measured] = []

    def __enter__(self) -> "Bench":
        self._worker = self._stack.enter_context(Worker(self._scratch / "load.log"))
        self._hive = Hive(self._scratch / "hive", self._models)
        self._stack.callback(self._hive.stop)
        return self

    def __exit__(self, *_: object) -> None:
        self._report("Ending everything that was started")
        self._stack.close()

    def quick(self) -> None:
        """The tiny model alone."""
        self._report("Starting Hive with the tiny model")
        hive = self._hive.up((TINY,))
        found = self._engines(hive)
        stock, bare = self._start(Stock, found[TINY]), self._start(Bare, found[TINY])
        self._wait(bare, stock)
        self._measure(QUICK_PLAN, self._urls(hive, {BARE: [bare], STOCK: [stock]}))

    def whole(self) -> None:
        """Both models alone and together. At most 21 GiB at a time."""
        self._report("Starting Hive with both models")
        hive = self._hive.up((TINY, GEMMA))
        found = self._engines(hive)
        stock, bare = self._start(Stock, found[TINY]), self._start(Bare, found[TINY])
        self._wait(bare, stock)
        self._measure(TINY_PLAN, self._urls(hive, {BARE: [bare], STOCK: [stock]}))
        stock.stop()

        large = self._start(Bare, found[GEMMA])
        self._wait(large)
        self._measure(MIX_PLAN, self._urls(hive, {BARE: [bare, large]}, leave=(DIRECT,)))
        bare.stop()

        self._report("Turning the tiny model off in Hive")
        hive = self._hive.up((GEMMA,))
        servers = {BARE: [large]}
        free = psutil.virtual_memory().available
        if free < STOCK_GEMMA_BYTES:
            self._report(f"{human(free)} of memory are free: too little for stock Ray Serve LLM with Gemma, left out")
        else:
            servers[STOCK] = [self._start(Stock, found[GEMMA])]
            self._wait(*servers[STOCK])
        self._measure(GEMMA_PLAN, self._urls(hive, servers))

    # -- inside --------------------------------------------------------------------------------------------------------

    def _engines(self, hive: LocalHive) -> dict[str, Engine]:
        return engines(render(self._hive.values_file), hive.state().devices[0], self._hive.where.models)

    def _start(self, kind: type[Server], engine: Engine) -> Server:
        name = f"{kind.__name__.lower()}-{engine.model}"
        self._report(f"Starting {name}")
        server = kind(self._scratch / name, engine)
        self._stack.callback(server.stop)
        server.start()
        return server

    def _wait(self, *servers: Server) -> None:
        for server in servers:
            server.wait()

    def _urls(self, hive: LocalHive, servers: Mapping[str, list[Server]], leave: tuple[str, ...] = ()) -> Urls:
        urls = {target: {one.engine.model: one.url for one in found} for target, found in servers.items()}
        models = {model for found in urls.values() for model in found}
        if DIRECT not in leave:
            urls[DIRECT] = {model: direct_url(hive, model) for model in models}
        urls[GATEWAY] = dict.fromkeys(models, gateway_url(hive))
        return urls

    def _measure(self, plan: Plan, urls: Urls) -> None:
        if not hasattr(self, "_loaded"):
            self._worker.wait()
            self._loaded = True
        self._report("Warming up, not measured")
        for case in plan.cases:
            for view, target in itertools.product(case.views(), urls):
                few = replace(view, requests=min(view.requests, WARM_UP_REQUESTS), beside=None)
                self._one(few, target, urls, number=0)
        for number in range(1, plan.rounds + 1):
            began = time.monotonic()
            for place, case in enumerate(plan.cases):
                for target in turned(list(urls), number + place):
                    self.measured += self._one(case, target, urls, number)
            took = time.monotonic() - began
            names = ", ".join(dict.fromkeys(case.model for case in plan.cases))
            self._report(f"{names}: round {number} of {plan.rounds}, {len(plan.cases)} cases, {took:.0f} s")

    def _one(self, case: Case, target: str, urls: Urls, number: int) -> Iterator[Measured]:
        views = case.views()
        results = self._worker.run(*(self._load(view, target, urls, number) for view in views))
        return (
            Measured(case=view, target=target, round=number, **result)
            for view, result in zip(views, results, strict=True)
        )

    def _load(self, case: Case, target: str, urls: Urls, number: int) -> Load:
        return Load(
            url=urls[target][case.model],
            model=case.model,
            tokenizer=str(self._models / case.model),
            prompt=case.prompt,
            answer=ANSWER,
            requests=case.requests,
            at_once=case.at_once,
            streamed=case.streamed,
            seed=number,
            salt=f"{case.name}, {target}, {number}",
        )


def turned(targets: list[T], number: int) -> list[T]:
    """The same targets, beginning with another one, so that no target always follows the same other."""
    start = number % len(targets)
    return targets[start:] + targets[:start]
