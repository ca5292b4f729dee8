"""Ray's autoscaler reads in the rendered RayCluster what each group is and brings, and the worker has the last word."""

import shlex

from ray.autoscaler._private.kuberay import autoscaling_config
from ray.scripts.scripts import start

from tests.chart.helm import FULL, Json, ray_service

GROUPS: Json = {
    "gpu": {"autoscaling": {"min": 1, "max": 4, "vram": "22Gi"}},
    "quad": {
        "autoscaling": {"min": 0, "max": 2, "vram": "78Gi"},
        "gpusPerWorker": 4,
        "gpuResource": "nvidia.com/gpu",
        "resources": {"requests": {"cpu": 16, "memory": "64Gi"}, "limits": {}},
    },
    "jobs": {
        "autoscaling": {"min": 0, "max": 8},
        "gpusPerWorker": 0,
        "resources": {"requests": {"cpu": "1500m", "memory": "8Gi"}, "limits": {"memory": "8Gi"}},
    },
    "still": {
        "replicas": 3,
        "gpusPerWorker": 1,
        "gpuResource": "nvidia.com/gpu",
        "resources": {"requests": {"cpu": 4, "memory": "16Gi"}, "limits": {}},
    },
}


def _read(values: Json) -> Json:
    """What the autoscaler makes of the RayCluster."""
    cluster = {"metadata": {"name": "hive", "namespace": "llm"}, "spec": ray_service(values)["rayClusterConfig"]}
    config: Json = autoscaling_config._derive_autoscaling_config_from_ray_cr(cluster)
    return config


def test_the_autoscaler_knows_bounds_and_bytes_of_every_group() -> None:
    """A group that is not scaled stays as it is."""
    config = _read({"workerGroups": GROUPS})
    found = {name: kind for name, kind in config["available_node_types"].items() if name in GROUPS}
    assert {name: (kind["min_workers"], kind["max_workers"]) for name, kind in found.items()} == {
        "gpu": (1, 4),
        "quad": (0, 2),
        "jobs": (0, 8),
        "still": (3, 3),
    }
    assert found["gpu"]["resources"]["vram_mib"] == 22 * 1024
    assert found["quad"]["resources"]["vram_mib_x4"] == 78 * 1024
    assert config["idle_timeout_minutes"] == 5


def test_the_autoscaler_adds_workers_for_jobs_to_a_task_and_workers_with_gpus_to_a_replica() -> None:
    """Else it would answer a job with a GPU, on which the job then does not run."""
    found = {name: kind["resources"] for name, kind in _read({"workerGroups": GROUPS})["available_node_types"].items()}
    assert {name: found[name]["CPU"] for name in GROUPS} == {"gpu": 0, "quad": 0, "still": 0, "jobs": 2}
    assert (found["gpu"]["model_cpus"], found["quad"]["model_cpus"]) == (4, 16)
    assert not {"model_cpus", "vram_mib"} & found["jobs"].keys()


def test_the_autoscaler_reads_everything_at_once() -> None:
    assert _read(FULL)["available_node_types"]["ram"]["resources"]["vram_mib"] == 48 * 1024


def test_what_a_worker_measured_stands_behind_what_was_declared_and_counts() -> None:
    """KubeRay writes the group's resources into the command, and serve_app.worker adds its own at the end."""
    declared = """ray start --block --resources='{"vram_mib":22528}' --num-cpus=4"""
    _, _, *flags = shlex.split(declared + """ --resources='{"vram_mib": 23000}'""")
    assert start.make_context("start", flags).params["resources"] == '{"vram_mib": 23000}'
