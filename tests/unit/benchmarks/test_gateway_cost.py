"""benchmarks.gateway_cost: what is computed from latencies, what is read from the chart's objects, and real requests to
the upstream."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gateway_cost import figures, gateway, measure
from benchmarks.gateway_cost.figures import FEW, MANY, Found
from hive.local.processes import free_ports
from hive.rendering import ROOT


def found(direct: float, few: float, many: float, **more: Any) -> Found:
    """Two rounds; in the second one everything takes a second longer, as on a machine that others use."""

    def rounds(ms: float) -> list[list[float]]:
        return [[ms / 1000] * 3, [1 + ms / 1000] * 3]

    through = {FEW: rounds(few), MANY: rounds(many)}
    sizes = {"streams": 500, "bytes_before": 2**20, "bytes_with_streams": 2**21} | more
    return Found(direct=rounds(direct), through=through, idle_bytes={FEW: 2**20, MANY: 2**21}, **sizes)


@pytest.mark.parametrize(
    ("few", "many", "met"), [(2.0, 2.05, [True, True]), (2.0, 2.15, [True, False]), (2.5, 2.55, [False, True])]
)
def test_aims_compare_within_one_round(few: float, many: float, met: list[bool]) -> None:
    assert [aim.met for aim in figures.aims(found(1.0, few, many))] == met


def test_the_report_says_what_was_measured_and_what_was_not() -> None:
    text = figures.markdown(
        found(
            1.0,
            2.0,
            2.0,
            streams=500,
            bytes_before=80 * 2**20,
            bytes_with_streams=105 * 2**20,
        )
    )
    assert f"| through the gateway, {MANY} models | 502.000 | 1002.000 | 1.00 (1.00 to 1.00) | 2.0 |" in text
    assert "holds 105.0 MiB, 51 KiB more for each (80.0 MiB before" in text


def test_the_working_directory_is_the_pods(tmp_path: Path) -> None:
    gateway.lay_out(tmp_path / "new", {"envoy.yaml": "a"}, {"resources": []})
    assert (tmp_path / "new/config/envoy.yaml").read_text() == "a"
    assert json.loads((tmp_path / "new/run/replicas.json").read_text()) == {"resources": []}


async def test_the_upstream_answers_at_once_and_keeps_streams_open() -> None:
    (port,) = free_ports(1)
    program = [sys.executable, "-m", "benchmarks.gateway_cost.upstream", str(port), "1"]
    with subprocess.Popen(program, cwd=ROOT) as server:  # noqa: ASYNC220  (it only starts here)
        try:
            latencies = _when_up(server, port)
            assert len(latencies) == 3
            async with measure.OpenStreams(port, "/v1/chat/completions", "any", 5) as streams:
                assert len(streams._writers) == 5
        finally:
            server.kill()


def _when_up(server: subprocess.Popen[bytes], port: int) -> list[float]:
    while True:
        try:
            return measure.latencies(port, "/v1/chat/completions", "any", 3)
        except ConnectionRefusedError:
            assert server.poll() is None
