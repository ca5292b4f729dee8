"""`hive bench`: a small measured load on one model."""

import asyncio
from typing import Annotated

import openai
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from hive.bench import terminal
from hive.bench.figures import Result, result
from hive.bench.load import Load, prompts, send, vocabulary
from hive.commands.shared import AsJson, Model, chosen, err, out, serving
from hive.target import Target
from hive.views import leases_of


def bench(
    ctx: typer.Context,
    model: Model,
    *,
    requests: Annotated[int, typer.Option(min=1, max=10_000, help="How many in all.")] = 40,
    concurrency: Annotated[int, typer.Option(min=1, max=1_000, help="How many at once.")] = 8,
    input_tokens: Annotated[int, typer.Option(min=1, help="Tokens of each prompt.")] = 128,
    output_tokens: Annotated[int, typer.Option(min=1, help="Tokens of each answer.")] = 64,
    max_seconds: Annotated[float, typer.Option(min=1, help="What is not answered by then counts as an error.")] = 120,
    as_json: AsJson = False,
) -> None:
    """Ask a model many times and measure. Prompts are tokens drawn by chance, so no prefix cache helps.

    Exit code 1: no request was answered.
    """
    hive = chosen(ctx).target()
    load = Load(
        model=model,
        requests=requests,
        concurrency=concurrency,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        max_seconds=max_seconds,
    )
    found = _measure(hive, load)
    if as_json:
        print(found.model_dump_json(indent=2))
    else:
        out.print(terminal.show(found))
    if not found.answered:
        raise typer.Exit(1)


def _measure(hive: Target, load: Load) -> Result:
    url, key, where = hive.gateway_url(), hive.api_key(), _ran_on(hive, load.model)
    asked = prompts(vocabulary(url, key, load), load)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(load.model, total=load.requests)

        async def run() -> Result:
            async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key or "unused", max_retries=0) as client:
                outcomes, seconds = await send(client, load, asked, lambda: progress.advance(task))
            return result(load, where, outcomes, seconds)

        return asyncio.run(run())


def _ran_on(hive: Target, model: str) -> list[str]:
    """Each replica with its devices, in words.

    Raises:
        HiveError: there is no such model.
    """
    found, states = serving(hive, model), hive.states()
    names = {(node, device.id): device.name for node, state in states.items() for device in state.devices}
    return [
        f"{held.node}: {', '.join(f'{device} ({names[held.node, device]})' for device in held.lease.devices)}"
        for _, held in leases_of(found, states)
        if held is not None
    ]
