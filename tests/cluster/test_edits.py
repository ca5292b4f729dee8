"""What `helm upgrade` does is what was edited, and nothing else. The tests share one cluster and run in order."""

from typing import Any

import pytest

from tests.cluster.conftest import (
    BOTH,
    LARGE,
    LEFT,
    NAMESPACE,
    RELEASE,
    SMALL,
    Cluster,
    Load,
    measured,
    tiny,
    values,
    wait_for,
    worker_group,
)

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900), pytest.mark.usefixtures("both")]


def test_a_third_fits_in_what_is_left_of_the_large_device_and_goes_again(cluster: Cluster) -> None:
    before = cluster.pids()
    cluster.upgrade(BOTH | {"third": tiny("3Gi")})
    cluster.settle()
    assert cluster.devices("third") == {LARGE}
    cluster.upgrade(BOTH)
    seconds = wait_for("its lease is gone", lambda: {lease["model"] for lease in cluster.leases()} == set(BOTH))
    measured("helm upgrade with one model less, until its lease is gone", seconds)
    assert cluster.pids() == before


def test_helm_test_asks_every_model(cluster: Cluster) -> None:
    wait_for("the RayService has heard of both", lambda: cluster.states() == dict.fromkeys(BOTH, "RUNNING"))
    done = cluster.helm("test", RELEASE, "-n", NAMESPACE, "--logs", "--timeout", "3m")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in BOTH:
        assert f"ok     {name} answers with 200" in done.stdout


def test_replicas_come_and_go_on_another_device_without_a_failed_request(cluster: Cluster) -> None:
    before, pods = cluster.pids(), cluster.uids()
    with Load(cluster, "left") as load:
        cluster.upgrade(BOTH | {"left": LEFT | {"replicas": 2}})
        measured("replicas 1 -> 2", cluster.settle())
        assert before["left"] < cluster.pids()["left"]
        assert cluster.devices("left") == {SMALL, LARGE}
        cluster.upgrade(BOTH)
        measured("replicas 2 -> 1", cluster.settle())
    assert load.failed == []
    assert load.answered > 0
    assert cluster.pids()["right"] == before["right"]
    assert cluster.uids() == pods


def test_an_edit_of_one_model_restarts_that_one_and_rollback_brings_it_back(cluster: Cluster) -> None:
    before, pods = cluster.pids(), cluster.uids()
    revision = cluster.revision()
    cluster.upgrade(BOTH | {"left": LEFT | {"maxModelLen": 256}})
    seconds = wait_for("left is another", lambda: cluster.pids().get("left", before["left"]).isdisjoint(before["left"]))
    measured("an edit of a model's engine, to its first answer", seconds + cluster.settle())
    assert max_model_len(cluster, "left") == 256
    edited = cluster.pids()["left"]
    done = cluster.helm("rollback", RELEASE, str(revision), "-n", NAMESPACE)
    assert done.returncode == 0, done.stderr
    seconds = wait_for("left is another again", lambda: cluster.pids().get("left", edited).isdisjoint(edited))
    measured("helm rollback, to the first answer", seconds + cluster.settle())
    assert max_model_len(cluster, "left") == 512
    assert cluster.pids()["right"] == before["right"]
    assert cluster.uids() == pods


def max_model_len(cluster: Cluster, model: str) -> Any:
    (card,) = [card for card in cluster.client().models.list() if card.id == model]
    return getattr(card, "max_model_len", None)


def test_a_bad_edit_is_refused_with_nothing_changed(cluster: Cluster) -> None:
    before, revision = cluster.pids(), cluster.revision()
    file = values(BOTH | {"left": LEFT | {"replicas": -1}}, cluster.folder)
    done = cluster.helm("upgrade", RELEASE, "chart", "-n", NAMESPACE, "-f", str(file))
    assert done.returncode != 0
    assert "replicas" in done.stderr
    assert cluster.pids() == before
    assert cluster.revision() == revision


def test_one_bad_model_of_several_takes_nothing_from_the_others(cluster: Cluster) -> None:
    before = cluster.pids()
    cluster.upgrade(BOTH | {"lost": tiny("2Gi", source="./nowhere")})
    wait_for(
        "the reason is told", lambda: "/models/nowhere has no config.json" in str(cluster.service().get("status")), 180
    )
    assert cluster.answers("left")
    assert cluster.pids() == before
    cluster.upgrade(BOTH)
    wait_for("it is forgotten", lambda: set(cluster.states()) == set(BOTH), 120)


def test_workers_come_and_go_by_the_jobs_of_upgrades(cluster: Cluster) -> None:
    """KubeRay takes no count of a RayService to a cluster that runs, and no group that sorts before another."""
    before, pods = cluster.pids(), cluster.uids()
    more = {"another": worker_group(SMALL), "large": worker_group(LARGE), "small": worker_group(SMALL, replicas=2)}
    said = cluster.upgrade(BOTH, workerGroups={"gpu": None} | more)
    assert "small.replicas: 2" in said
    assert "another is new" in said
    seconds = wait_for("five Ray pods run", lambda: len(running(cluster)) == 5)
    measured("two worker pods more, one of a new group, until they run", seconds)
    assert cluster.pids() == before
    cluster.upgrade(BOTH)
    wait_for("two workers are left", lambda: len(cluster.uids()) == 3)
    cluster.settle()
    assert len(cluster.uids() & pods) >= 2, "which of two workers of a group goes is KubeRay's choice"


def running(cluster: Cluster) -> set[str]:
    """UIDs of the Ray pods whose containers run."""
    found = cluster.pods("ray.io/is-ray-node=yes")
    return {pod["metadata"]["uid"] for pod in found if pod["status"]["phase"] == "Running"}


def test_an_edit_of_ray_pods_is_announced_and_lands_when_asked(cluster: Cluster) -> None:
    """KubeRay would leave them as they are, and say nothing."""
    pods = cluster.uids()
    env = [{"name": "HIVE_DEVICES", "value": SMALL}, {"name": "EDITED", "value": "yes"}]
    groups = {"gpu": None, "large": worker_group(LARGE), "small": worker_group(SMALL, env=env)}
    said = cluster.upgrade(BOTH, workerGroups=groups)
    assert cluster.worker_of(SMALL) in said
    assert "rollout.podTemplate=Recreate" in said
    assert cluster.uids() == pods
    cluster.upgrade(BOTH, "--set", "rollout.podTemplate=Recreate", workerGroups=groups)
    seconds = wait_for("no old pod is left", lambda: cluster.uids().isdisjoint(pods))
    answer = cluster.ask("left")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    measured("the cluster made anew, to the first answers", seconds + cluster.settle())
    (worker,) = cluster.pods("ray.io/group=small")
    assert env[1] in worker["spec"]["containers"][0]["env"]
