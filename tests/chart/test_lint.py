"""`helm lint --strict` has nothing to say but that the chart has no icon."""

import helm_python
import pytest

from hive.rendering import quiet_stderr
from tests.chart.helm import CHART, Json, value_sets

INFO = 1


@pytest.mark.parametrize("values", value_sets().values(), ids=list(value_sets()))
def test_lint_has_no_warning_and_no_error(values: Json) -> None:
    """With the defaults, every ready values file, and everything at once."""
    with quiet_stderr():
        report = helm_python.lint(CHART, values, strict=True)
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > INFO] == []


def test_lint_fails_on_bad_values() -> None:
    """So the test above can fail."""
    with quiet_stderr():
        report = helm_python.lint(CHART, {"models": {"a": {"source": "o/a"}}}, strict=True)
    assert "missing property 'vram'" in str(report["errors"])
