"""The chart on a real Kubernetes with the KubeRay operator. The tests share one cluster and run in order."""

from typing import Any

import httpx
import pytest

from tests.cluster.conftest import NAMESPACE, RELEASE, Cluster, values, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


def tiny(**more: Any) -> dict[str, Any]:
    return {"source": "./tiny", "vram": "2560Mi", "cpu": 0.1, "maxModelLen": 512, "maxNumSeqs": 4} | more


def upgrade(cluster: Cluster, models: dict[str, Any], *flags: str, **more: Any) -> None:
    file = values(models, cluster.folder, **more)
    done = cluster.helm("upgrade", "--install", RELEASE, "chart", "-n", NAMESPACE, "-f", str(file), *flags)
    assert done.returncode == 0, done.stderr


def running(cluster: Cluster, *models: str) -> bool:
    return cluster.states() == dict.fromkeys(models, "RUNNING")


def answers(cluster: Cluster, model: str) -> bool:
    answer = httpx.post(
        f"{cluster.gateway}/v1/completions", json={"model": model, "prompt": "hello", "max_tokens": 2}, timeout=60
    )
    return answer.status_code == 200


def test_install_to_the_first_answer(cluster: Cluster) -> None:
    upgrade(cluster, {"left": tiny()})
    wait_for("left is RUNNING", lambda: running(cluster, "left"), 600)
    wait_for("left answers", lambda: answers(cluster, "left"), 60)
    assert [model.id for model in cluster.client().models.list()] == ["left"]
    assert set(cluster.pids()) == {"left"}


def test_helm_test_passes(cluster: Cluster) -> None:
    done = cluster.helm("test", RELEASE, "-n", NAMESPACE, "--logs", "--timeout", "3m")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok     left answers with 200" in done.stdout


def test_a_second_replica_and_back_leave_the_first_alone(cluster: Cluster) -> None:
    before, pods = cluster.pids(), {pod["metadata"]["uid"] for pod in cluster.pods("ray.io/is-ray-node=yes")}
    upgrade(cluster, {"left": tiny(replicas=2)})
    wait_for("two replicas", lambda: len(cluster.pids().get("left", ())) == 2)
    assert before["left"] < cluster.pids()["left"]
    upgrade(cluster, {"left": tiny()})
    wait_for("one replica", lambda: len(cluster.pids().get("left", ())) == 1)
    assert {pod["metadata"]["uid"] for pod in cluster.pods("ray.io/is-ray-node=yes")} == pods


def test_a_model_comes_and_another_is_left_alone(cluster: Cluster) -> None:
    before = cluster.pids()["left"]
    upgrade(cluster, {"left": tiny(), "right": tiny()})
    wait_for("right is RUNNING", lambda: running(cluster, "left", "right"), 600)
    wait_for("right answers", lambda: answers(cluster, "right"), 60)
    assert cluster.pids()["left"] == before
    upgrade(cluster, {"left": tiny()})
    wait_for("right is gone", lambda: set(cluster.pids()) == {"left"})
    assert cluster.pids()["left"] == before


def test_a_bad_edit_is_refused_with_nothing_changed(cluster: Cluster) -> None:
    before = cluster.pids()
    file = values({"left": tiny(replicas=-1)}, cluster.folder)
    done = cluster.helm("upgrade", RELEASE, "chart", "-n", NAMESPACE, "-f", str(file))
    assert done.returncode != 0
    assert "replicas" in done.stderr
    assert cluster.pids() == before


def test_without_a_replica_the_gateway_says_so_at_once(cluster: Cluster) -> None:
    (worker,) = cluster.pods("ray.io/node-type=worker")
    cluster.delete_pod(worker["metadata"]["name"])
    wait_for("no lease is left", lambda: not cluster.pids(), 120)
    wait_for("the gateway knows", lambda: not answers(cluster, "left"), 10)
    answer = httpx.post(f"{cluster.gateway}/v1/completions", json={"model": "left", "prompt": "hello"}, timeout=2)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    wait_for("left serves on a new pod", lambda: answers(cluster, "left"), 600)


def test_uninstall_leaves_nothing(cluster: Cluster) -> None:
    done = cluster.helm("uninstall", RELEASE, "-n", NAMESPACE, "--wait", "--timeout", "5m")
    assert done.returncode == 0, done.stderr
    wait_for("no pod is left", lambda: not cluster.get(f"/api/v1/namespaces/{NAMESPACE}/pods")["items"], 180)
    for kind in ("secrets", "configmaps", "services", "serviceaccounts"):
        left = [one["metadata"]["name"] for one in cluster.get(f"/api/v1/namespaces/{NAMESPACE}/{kind}")["items"]]
        assert [name for name in left if name.startswith(RELEASE)] == []
