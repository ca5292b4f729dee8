"""A result as people see it."""

import io

from rich.console import Console

from hive.bench import terminal
from hive.bench.figures import result
from hive.bench.load import Answer, Failure
from tests.unit.hive.bench.test_figures import LOAD


def shown(*outcomes: Answer | Failure) -> str:
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(terminal.show(result(LOAD, ["n1: GPU-0 (H100)"], outcomes, 2.0)))
    return console.export_text()


def test_figures_errors_and_where_it_ran_are_named() -> None:
    text = shown(Answer(0.1, 0.5, 8, 5), Failure("503 model_not_ready"), Failure("503 model_not_ready"))
    for words in ("4 requests, 2 at once, 8 tokens in, 5 out", "GPU-0 (H100)", "2.5 output tokens/s"):
        assert words in text
    assert "2 x 503 model_not_ready" in text
    cells = [line.split("│")[1:4] for line in text.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row] for row in cells] == [
        ["time to first token", "100.0", "100.0"],
        ["inter-token latency", "100.0", "100.0"],
        ["request latency", "500.0", "500.0"],
    ]


def test_what_was_not_measured_is_a_dash() -> None:
    assert shown(Failure("503")).count(" - ") == 6
