"""`hive chat`: one question, the answer as it comes."""

from typing import Annotated

import typer
from rich.text import Text

from hive import chat as chatting
from hive.commands.shared import Model, chosen, out
from hive.errors import HiveError
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
    names = [application.name for application in hive.applications()]
    if model not in names:
        raise HiveError(f"there is no model {model!r}", f"the models are: {', '.join(names) or 'none'}")
    out.print(Text(question, style="bold"))
    for piece in chatting.ask(f"{hive.gateway_url()}/v1", hive.api_key(), model, question, max_tokens):
        out.print(piece, end="", highlight=False, markup=False, soft_wrap=True)
    out.print()
