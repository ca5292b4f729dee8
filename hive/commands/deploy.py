"""`hive deploy`: one model more, or another."""

from typing import Annotated

import helm_python
import typer

from hive import deploying
from hive.commands.shared import Kept, chosen, out, report, watching
from hive.errors import HiveError
from hive.target import Json


def deploy(
    ctx: typer.Context,
    model_id: Annotated[str, typer.Argument(help="Its name: what clients send as model.")],
    source: Annotated[str, typer.Argument(help="Hub id, ./folder of the models volume, or an absolute path there.")],
    vram: Annotated[str | None, typer.Option(help="Budget of a replica, like 22Gi. Left out: reckoned.")] = None,
    replicas: Annotated[int | None, typer.Option(help="Copies of the model.")] = None,
    max_model_len: Annotated[int | None, typer.Option(help="Tokens of prompt and answer together.")] = None,
    max_num_seqs: Annotated[int | None, typer.Option(help="Sequences that run at once.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Of an answer, where a request does not say.")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Any other key of the entry: engine.kv_cache_dtype=fp8")
    ] = None,
    values: Kept = None,
) -> None:
    """Add a model to the values, or change one, and wait until it serves."""
    entry = deploying.entry_of(
        source,
        vram=vram,
        replicas=replicas,
        max_num_seqs=max_num_seqs,
        max_model_len=max_model_len,
        max_tokens=max_tokens,
    )
    entry = deploying.merged(entry, parsed(sets or []))
    hive = chosen(ctx).target(values)
    with watching(f"{model_id} goes on starting: hive status") as watch:
        deploying.deploy(hive, model_id, entry, report, watch)
    out.print(f"{model_id} serves.", markup=False)


def parsed(sets: list[str]) -> Json:
    """KEY=VALUE as Helm reads it: as JSON where it is that, else as text.

    Raises:
        HiveError: one can't be read.
    """
    found: Json = {}
    for one in sets:
        try:
            found = deploying.merged(found, helm_python.parse_set_json(one))
        except helm_python.HelmError:
            try:
                found = deploying.merged(found, helm_python.parse_set_string(one))
            except helm_python.HelmError as error:
                raise HiveError(f"--set {one}: {error}", "write --set engine.kv_cache_dtype=fp8") from error
    return found
