"""benchmarks.serving_speed: what is computed from measurements, and what is told of it."""

import json
from pathlib import Path

import numpy
import pytest

from benchmarks.serving_speed import figures, plot, report, run, targets
from benchmarks.serving_speed.cases import GEMMA, LONG, SHORT, TINY, Case
from benchmarks.serving_speed.engines import flags
from benchmarks.serving_speed.figures import BARE, DIRECT, GATEWAY, STOCK, Measured

ALONE = Case(TINY, SHORT, 1, 2)
CROWD = Case(TINY, SHORT, 32, 2)
MIX = Case(TINY, SHORT, 4, 2, beside=Case(GEMMA, SHORT, 4, 1))


def measured(
    case: Case, target: str, number: int, *, ttft: float = 0.01, tokens: int = 100, failed: int = 0
) -> Measured:
    """Two requests, one with `ttft` and one far slower, in one second."""
    return Measured(case, target, number, 1.0, [ttft, ttft + 0.2], [ttft + 1, ttft + 3], tokens, failed)


def test_a_ratio_compares_targets_within_one_round() -> None:
    """Rounds on a machine that slows down: the ratio of medians would say 1, each round says 2."""
    found = [
        *(measured(ALONE, BARE, number, tokens=tokens) for number, tokens in ((1, 100), (2, 50), (3, 25))),
        *(measured(ALONE, GATEWAY, number, tokens=tokens) for number, tokens in ((1, 200), (2, 100), (3, 50))),
    ]
    spread = figures.paired(found, ALONE, GATEWAY, BARE, figures.throughput_ratio)
    assert spread == figures.Spread(2.0, 2.0, 2.0, 3)


def test_a_round_without_its_base_counts_for_nothing() -> None:
    found = [measured(ALONE, BARE, 1), measured(ALONE, GATEWAY, 1, ttft=0.013), measured(ALONE, GATEWAY, 2, ttft=9)]
    spread = figures.paired(found, ALONE, GATEWAY, BARE, figures.ttft_more)
    assert (spread.median, spread.rounds) == (pytest.approx(3.0), 1)


def test_a_row_pools_the_requests_of_all_rounds_and_takes_the_median_rounds_throughput() -> None:
    found = [
        measured(ALONE, BARE, number, ttft=number / 100, tokens=tokens)
        for number, tokens in ((1, 10), (2, 90), (3, 20))
    ]
    (row,) = figures.rows(found)
    assert row.requests == 6
    assert row.tokens_per_s == 20
    assert row.ttft_p50 == pytest.approx(numpy.median([10, 210, 20, 220, 30, 230]))
    assert row.latency_p99 == pytest.approx(float(numpy.quantile([1010, 3010, 1020, 3020, 1030, 3030], 0.99)))


def test_rows_are_in_the_order_of_cases_then_targets() -> None:
    found = [measured(case, target, 1) for case in (CROWD, ALONE) for target in (GATEWAY, DIRECT, BARE)]
    assert [(row.case, row.target) for row in figures.rows(found)] == [
        (case, target) for case in (CROWD, ALONE) for target in (BARE, DIRECT, GATEWAY)
    ]


@pytest.mark.parametrize(
    ("ttft", "tokens", "stock", "met"),
    [
        (0.0149, 98, 65, [True, True, True]),
        (0.0151, 98, 65, [False, True, True]),
        (0.0149, 96, 60, [True, False, True]),
        (0.0149, 98, 66, [True, True, False]),
    ],
)
def test_aims(ttft: float, tokens: int, stock: int, met: list[bool]) -> None:
    found = [
        measured(ALONE, BARE, 1),
        measured(ALONE, GATEWAY, 1, ttft=ttft),
        measured(CROWD, BARE, 1),
        measured(CROWD, STOCK, 1, tokens=stock),
        measured(CROWD, GATEWAY, 1, tokens=tokens),
    ]
    assert [aim.met for aim in figures.aims(found)] == met


def test_a_failed_request_fails_its_aim_however_fast_the_others_were() -> None:
    found = [measured(ALONE, BARE, 1), measured(ALONE, GATEWAY, 1, ttft=0.001, failed=1)]
    (aim,) = figures.aims(found)
    assert aim.met is False
    assert "failed" in aim.found


def test_without_a_gateway_an_aim_is_not_measured() -> None:
    (aim,) = figures.aims([measured(ALONE, BARE, 1), measured(ALONE, DIRECT, 1)])
    assert (aim.met, aim.found) == (None, "not measured")


def test_aims_leave_out_long_prompts_the_mix_and_what_is_not_streamed() -> None:
    cases = [Case(TINY, LONG, 1, 2), MIX, Case(TINY, SHORT, 1, 2, streamed=False)]
    assert figures.aims([measured(case, BARE, 1) for case in cases]) == []


def test_a_mix_is_seen_from_both_models() -> None:
    mine, other = MIX.views()
    assert mine == MIX
    assert other == Case(GEMMA, SHORT, 4, 1, beside=Case(TINY, SHORT, 4, 2))
    assert other.views() == [other, mine]
    assert ALONE.views() == [ALONE]


def test_every_target_comes_first_once() -> None:
    assert sorted(run.turned(list("abcd"), number)[0] for number in range(4)) == list("abcd")
    assert run.turned(list("abcd"), 6) == list("cdab")


def test_engine_arguments_as_flags() -> None:
    kwargs = {"enforce_eager": True, "enable_prefix_caching": False, "max_model_len": 512, "chat_template": "{{ a }}\n"}
    assert flags(kwargs | {"override_generation_config": {"temperature": 0}}) == [
        "--enforce-eager",
        "--no-enable-prefix-caching",
        "--max-model-len=512",
        "--chat-template={{ a }}\n",
        '--override-generation-config={"temperature": 0}',
    ]


def test_nothing_tunes_a_target_behind_its_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_SERVE_ENABLE_HA_PROXY", "HIVE_STATE_DIR", "VLLM_CPU_KVCACHE_SPACE", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    assert not [name for name in targets.clean_environment() if name.startswith(targets.TUNED)]


def test_the_values_serve_the_models_asked_for_and_no_other() -> None:
    models = targets.values((GEMMA,), {"serve": 1})["models"]
    assert models[TINY]["replicas"] == 0
    assert "replicas" not in models[GEMMA]
    assert models[GEMMA]["maxNumSeqs"] == targets.AT_ONCE


def test_the_report_holds_every_figure(tmp_path: Path) -> None:
    found = [measured(case, target, 1) for case in (ALONE, CROWD, MIX) for target in (BARE, STOCK, GATEWAY)]
    report.Report({"cpu": "two"}, found).write(tmp_path)
    whole = json.loads((tmp_path / "serving_speed.json").read_text())
    assert len(whole["measured"]) == len(found)
    assert whole["measured"][0]["ttft"] == [0.01, 0.21]
    assert [aim["met"] for aim in whole["aims"]] == [True, True, False]
    text = (tmp_path / "serving_speed.md").read_text()
    assert "- cpu: two" in text
    lines = [line for line in text.splitlines() if line.startswith(f"| {MIX.name} | gateway")]
    assert [line.count("|") for line in lines] == [len(report.HEAD) + 1, len(report.RATIO_HEAD) + 1]
    assert (tmp_path / "serving_speed.png").read_bytes().startswith(b"\x89PNG")


def test_every_target_has_a_colour_and_a_name() -> None:
    assert set(figures.TARGETS) == set(plot.COLOURS) == set(plot.LABELS)
