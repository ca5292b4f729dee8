"""A result in the terminal. Turns data into rich renderables."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hive.bench.figures import Quantiles, Result


def show(found: Result) -> RenderableType:
    """All of it."""
    load = found.load
    lines: list[RenderableType] = [
        Text(
            f"{load.model}: {load.requests} requests, {load.concurrency} at once, "
            f"{load.input_tokens} tokens in, {load.output_tokens} out",
            style="bold",
        ),
        *(Text(f"  on {where}", style="dim") for where in found.ran_on),
    ]
    table = Table()
    table.add_column("milliseconds")
    table.add_column("p50", justify="right")
    table.add_column("p99", justify="right")
    table.add_row("time to first token", *_cells(found.time_to_first_token))
    table.add_row("inter-token latency", *_cells(found.inter_token))
    table.add_row("request latency", *_cells(found.latency))
    lines.append(table)
    lines.append(
        Text(
            f"{found.output_tokens_per_second:.1f} output tokens/s, {found.requests_per_second:.2f} requests/s, "
            f"{found.answered} answered in {found.seconds:.1f} s"
        )
    )
    lines += [Text(f"{number} x {kind}", style="red") for kind, number in found.errors.items()]
    return Group(*lines)


def _cells(found: Quantiles | None) -> tuple[str, str]:
    return ("-", "-") if found is None else (f"{found.p50:.1f}", f"{found.p99:.1f}")
