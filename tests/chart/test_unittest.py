"""The suites in chart/tests, which check the chart's templates one by one with helm-unittest."""

import subprocess

from tests.chart.helm import CHART, ROOT, tool

SNAPSHOT = CHART / "tests" / "__snapshot__" / "snapshot_test.yaml.snap"


def test_every_suite_passes_and_the_default_output_is_the_committed_one() -> None:
    """helm-unittest writes a snapshot that is missing and calls it passed, so the file is compared as well."""
    before = SNAPSHOT.read_bytes()
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
    assert SNAPSHOT.read_bytes() == before
