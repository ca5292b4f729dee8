"""What the operator reads after an upgrade names the pods that it did not reach, and no others."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.chart.helm import CHART, FULL, NAMESPACE, RELEASE, Json, ray_service, tool

VALUES: Json = FULL | {"ray": FULL["ray"] | {"upgradeStrategy": "None"}, "rollout": {"podTemplate": "Announce"}}


def _pod(name: str, group: str, digest: str, release: str = RELEASE) -> Json:
    labels = {"app.kubernetes.io/instance": release, "ray.io/group": group}
    metadata = {"name": name, "namespace": NAMESPACE, "labels": labels, "annotations": {"hive/template": digest}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}


def _check(folder: Path, pods: list[Json], values: Json, asserts: list[Json]) -> None:
    """helm-unittest's own API server answers `lookup`."""
    chart = shutil.copytree(CHART, folder / "hive", ignore=shutil.ignore_patterns("__pycache__", "*_test.yaml"))
    suite = {
        "suite": "lookup",
        "templates": ["templates/NOTES.txt"],
        "release": {"name": RELEASE, "namespace": NAMESPACE, "upgrade": True},
        "set": values,
        "kubernetesProvider": {
            "scheme": {"v1/Pod": {"gvr": {"version": "v1", "resource": "pods"}, "namespaced": True}},
            "objects": pods,
        },
        "tests": [{"it": "looks pods up", "asserts": asserts}],
    }
    (chart / "tests" / "lookup_test.yaml").write_text(yaml.safe_dump(suite))
    done = subprocess.run(
        [tool("helm-unittest"), "--strict", "-f", "tests/lookup_test.yaml", chart],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _running() -> list[Json]:
    """A pod of each group, made from the templates that are rendered now."""
    cluster = ray_service(VALUES)["rayClusterConfig"]
    groups = {"headgroup": cluster["headGroupSpec"]} | {
        group["groupName"]: group for group in cluster["workerGroupSpecs"]
    }
    return [
        _pod(f"new-{name}", name, group["template"]["metadata"]["annotations"]["hive/template"])
        for name, group in groups.items()
    ]


def test_pods_of_the_templates_that_are_rendered_are_not_named(tmp_path: Path) -> None:
    others = [_pod("stranger", "gpu", "old", "another-release")]
    _check(tmp_path, _running() + others, VALUES, [{"notMatchRegexRaw": {"pattern": "WARNING: these pods"}}])


@pytest.mark.parametrize(
    ("rollout", "said"),
    [
        ("Announce", "WARNING: these pods stay as they were before this edit: old-gone, old-gpu\\. "),
        ("Recreate", "WARNING: the cluster is made anew, .* because of old-gone, old-gpu\n"),
    ],
)
def test_pods_of_an_older_template_are_named(rollout: str, said: str, tmp_path: Path) -> None:
    old = [_pod("old-gpu", "gpu", "old"), _pod("old-gone", "gone", "old")]
    values = VALUES | {"rollout": {"podTemplate": rollout}}
    _check(tmp_path, _running() + old, values, [{"matchRegexRaw": {"pattern": said}}])


def test_kuberay_is_left_to_replace_pods_where_it_does(tmp_path: Path) -> None:
    values = VALUES | {"ray": VALUES["ray"] | {"upgradeStrategy": "NewCluster"}}
    _check(tmp_path, [_pod("old", "gpu", "old")], values, [{"notMatchRegexRaw": {"pattern": "old"}}])
