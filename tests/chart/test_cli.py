"""People use the `helm` command, Hive's own tools use Helm as a library: both must make the same of a values file."""

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.chart.helm import CHART, NAMESPACE, RELEASE, Json, complete, render, tool, value_sets

# What Helm's two ways of reading values have treated differently: nulls, zeros and large numbers.
TRICKY: Json = {
    "models": {
        "a": {"source": "owner/a", "vram": "1Gi", "maxModelLen": None, "cpu": 0, "engine": {"seed": 2**53, "x": None}},
        "b": {"source": "owner/b", "vram": "1Gi", "autoscaling": None, "maxNumSeqs": 1000000},
    },
    "modelDefaults": {"maxModelLen": 4096, "autoscaling": {"min": 1, "max": 2}, "memory": None},
    "workerGroups": {
        "gpu": None,
        "big": {"replicas": 1, "gpusPerWorker": 1, "gpuResource": "g/g", "resources": {"requests": {}, "limits": {}}},
    },
    "agent": {"headroomMib": 1000000, "nodeSelector": {"nvidia.com/gpu.present": None}},
}
SETS = value_sets() | {"tricky": complete(TRICKY)}


@pytest.mark.parametrize("values", SETS.values(), ids=list(SETS))
def test_the_command_renders_what_the_library_renders(values: Json, tmp_path: Path) -> None:
    """`helm template -f` against Chart.render."""
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    done = subprocess.run(
        [tool("helm"), "template", RELEASE, CHART, "--namespace", NAMESPACE, "--values", file],
        capture_output=True,
        text=True,
        check=True,
    )
    objects = [obj for obj in yaml.load_all(done.stdout, yaml.CSafeLoader) if obj is not None]
    assert _comparable(objects) == _comparable(render(values))


def test_the_command_refuses_bad_values() -> None:
    """With every mistake of templates/validation.yaml, and without rendering anything."""
    bad = "models.a.source=o/a,models.a.vram=1Gi,models.a.tensorParallel=2,ports.serve=8265,gateway.anonymous=true"
    done = subprocess.run(
        [tool("helm"), "template", RELEASE, str(CHART), "--set", bad], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.count("ERROR: ") == done.stderr.count("FIX: ") == 2


def _comparable(objects: list[Json]) -> list[Json]:
    """In one order, and without what is drawn by chance: the token in the Secret."""
    for obj in objects:
        if obj["kind"] == "Secret":
            obj["data"] = {key: len(value) for key, value in obj["data"].items()}
    return sorted(objects, key=lambda obj: (obj["kind"], obj["metadata"]["name"]))
