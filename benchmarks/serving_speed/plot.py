"""The picture of a run: what a user of each model feels, by target and by how many ask at once."""

from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.serving_speed.cases import SHORT
from benchmarks.serving_speed.figures import BARE, DIRECT, GATEWAY, STOCK, Row

COLOURS = {BARE: "#8a8f98", STOCK: "#e07a5f", DIRECT: "#81b29a", GATEWAY: "#3d5a80"}
LABELS = {BARE: "bare vLLM", STOCK: "stock Ray Serve LLM", DIRECT: "Hive, a model's own address", GATEWAY: "Hive"}
PANELS: Sequence[tuple[str, Callable[[Row], float], Callable[[Row], float] | None]] = (
    ("time to first token, ms", lambda row: row.ttft_p50, lambda row: row.ttft_p99),
    ("end to end, ms", lambda row: row.latency_p50, lambda row: row.latency_p99),
    ("answer tokens per second", lambda row: row.tokens_per_s, None),
)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Short streamed prompts: bars are p50, thin lines reach to p99."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    shown = [row for row in rows if row.case.streamed and row.case.prompt == SHORT and row.case.beside is None]
    models = list(dict.fromkeys(row.case.model for row in shown))
    targets = [target for target in COLOURS if any(row.target == target for row in shown)]
    figure, axes = pyplot.subplots(
        len(models), len(PANELS), figsize=(12, 3.4 * len(models)), squeeze=False, layout="constrained"
    )
    for model, line in zip(models, axes, strict=True):
        for (title, value, high), axis in zip(PANELS, line, strict=True):
            loads = sorted({row.case.at_once for row in shown if row.case.model == model})
            width = 0.8 / len(targets)
            for place, target in enumerate(targets):
                found = {row.case.at_once: row for row in shown if row.case.model == model and row.target == target}
                at = [loads.index(load) + (place - (len(targets) - 1) / 2) * width for load in found]
                bars = [value(row) for row in found.values()]
                errors = (
                    None if high is None else [[0.0] * len(bars), [high(row) - value(row) for row in found.values()]]
                )
                axis.bar(
                    at,
                    bars,
                    width,
                    yerr=errors,
                    color=COLOURS[target],
                    label=LABELS[target],
                    error_kw={"elinewidth": 0.8, "ecolor": "#555555"},
                )
            axis.set_xticks(range(len(loads)), [f"{load} at once" for load in loads])
            axis.set_title(f"{model}: {title}", fontsize=10)
            axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
