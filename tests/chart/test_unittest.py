"""The suites in chart/tests, which check the chart's templates one by one with helm-unittest."""

import subprocess

import yaml

from tests.chart.helm import CHART, ROOT, VALUES_FILES, tool

SNAPSHOTS = CHART / "tests" / "__snapshot__"


def _snapshots() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in SNAPSHOTS.iterdir()}


def test_every_suite_passes_and_the_output_is_the_committed_one() -> None:
    """helm-unittest writes a snapshot that is missing and calls it passed, so the files are compared as well."""
    before = _snapshots()
    done = subprocess.run(
        [tool("helm-unittest"), "--strict", "-f", "tests/*_test.yaml", CHART],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Test Suites: {len(list((CHART / 'tests').glob('*_test.yaml')))} passed" in done.stdout
    assert _snapshots() == before


def test_every_ready_values_file_has_its_snapshot() -> None:
    tests = yaml.safe_load((CHART / "tests" / "values_test.yaml").read_text())["tests"]
    assert [test["it"] for test in tests] == [path.name for path in VALUES_FILES]
