"""`hive chat`: one question, the answer as it comes."""

from typing import Annotated

import typer
from rich.text import Text

from hive.commands.shared import Model, chosen, out, serving
from hive.target import Target


def chat(
    ctx: typer.Context,
    model: Model,
    question: Annotated[str, typer.Argument(help="What to ask.")],
    max_tokens: Annotated[int | None, typer.Option(help="At most so many tokens.")] = None,
) -> None:
    """Ask a model one question and see the answer as it comes."""
    answer(chosen(ctx).target(), model, question, max_tokens)


def answer(hive: Target, model: str, question: str, max_tokens: int | None = None) -> None:
    """Ask, and print what comes.

    Raises:
        HiveError: there is no such model, or it does not answer.
    """
    serving(hive, model)
    out.print(Text(question, style="bold"))
    from hive import Options, inference  # the official client takes its time to be read

    # A key of the environment is not for this Hive, so one is always named.
    said: Options = {
        "max_tokens": max_tokens,
        "base_url": f"{hive.gateway_url()}/v1",
        "api_key": hive.api_key() or "unused",
        "max_retries": 0,
    }
    for piece in inference(question, model, stream=True, **said):
        out.print(piece, end="", highlight=False, markup=False, soft_wrap=True)
    out.print()
