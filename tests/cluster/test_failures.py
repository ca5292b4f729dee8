"""What is lost comes back, and what is left goes on meanwhile. The tests share one cluster and run in order."""

from typing import Any

import psutil
import pytest

from tests.cluster.conftest import (
    BOTH,
    LEFT,
    REDIS_PORT,
    Cluster,
    Load,
    measured,
    wait_for,
)
from tests.cluster.node import HERE

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900), pytest.mark.usefixtures("both")]
REDIS: dict[str, Any] = {
    "ray": {"gcsFaultTolerance": {"redisAddress": f"{HERE}:{REDIS_PORT}", "passwordSecret": "redis"}}
}


def engine_of(pid: int) -> int:
    """Of the replica with this PID in the node's namespace, the EngineCore's PID here: the child that has a child."""
    (replica,) = [p for p in psutil.process_iter() if names(p).get("node") == pid]
    return next(child.pid for child in replica.children() if child.children())


def names(process: psutil.Process) -> dict[str, int]:
    """The PIDs of a process: here, and in the namespace of the node, which is one below."""
    try:
        with open(f"/proc/{process.pid}/status") as status:
            (line,) = [line for line in status if line.startswith("NSpid:")]
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return {}
    pids = [int(pid) for pid in line.split()[1:]]
    return {"here": pids[0], "node": pids[1]} if len(pids) == 3 else {}


def test_an_engine_that_dies_is_noticed_and_replaced(cluster: Cluster) -> None:
    before = cluster.pids()
    psutil.Process(engine_of(*before["left"])).kill()
    seconds = wait_for("its replica ends", lambda: "left" not in cluster.pids())
    measured("an engine killed: until its replica has ended", seconds)
    measured("an engine killed: until it serves again", seconds + cluster.settle())
    assert cluster.pids()["right"] == before["right"]


def test_the_agent_may_go_while_replicas_serve(cluster: Cluster) -> None:
    before = cluster.pids()
    (agent,) = cluster.agents()
    with Load(cluster, "left") as load:
        cluster.delete_pod(agent)
        wait_for("another agent knows both", lambda: agent not in cluster.agents() and cluster.pids() == before)
    measured("the agent's pod deleted: requests meanwhile", load.answered)
    assert load.failed == []


def test_a_worker_that_goes_takes_no_model_that_has_two_replicas(cluster: Cluster) -> None:
    before = cluster.pids()
    cluster.upgrade(BOTH | {"left": LEFT | {"replicas": 2}})
    cluster.settle()
    (worker,) = cluster.pods("ray.io/group=small")
    uid = {worker["metadata"]["uid"]}
    with Load(cluster, "left", retries=3) as load:
        cluster.delete_pod(worker["metadata"]["name"])
        seconds = wait_for("the pod is gone", lambda: cluster.uids().isdisjoint(uid))
        measured("a worker pod deleted: until it is gone", seconds)
        measured("a worker pod deleted: until its replica is back", seconds + cluster.settle())
    assert load.failed == []
    assert cluster.pids()["right"] == before["right"]
    cluster.upgrade(BOTH)
    cluster.settle()


def test_without_a_replica_the_gateway_says_so_at_once(cluster: Cluster) -> None:
    (device,) = cluster.devices("right")
    cluster.delete_pod(cluster.worker_of(device))
    gone = wait_for("right is gone", lambda: "right" not in cluster.pids())
    known = wait_for("the gateway knows", lambda: not cluster.answers("right"), 10)
    answer = cluster.ask("right")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    measured("the only replica of a model gone: until the gateway answers 503", known)
    measured("the only replica of a model gone with its pod: until it serves again", gone + known + cluster.settle())


def test_a_head_that_dies_takes_the_models_and_brings_them_back(cluster: Cluster) -> None:
    before = cluster.pids()
    with Load(cluster, "left") as load:
        (head,) = cluster.heads().values()
        cluster.delete_pod(head)
        seconds = wait_for("all replicas are other ones", lambda: replaced(cluster, before))
        measured("the head deleted: until all serve again", seconds + cluster.settle())
    assert {error for error in load.failed if "Timeout" in error} == set(), "a request hung"


def replaced(cluster: Cluster, before: dict[str, set[int]]) -> bool:
    now = cluster.pids()
    return all(now.get(name, set()).isdisjoint(pids) for name, pids in before.items())


def test_with_redis_the_models_outlive_the_head(cluster: Cluster) -> None:
    pods = cluster.uids()
    cluster.upgrade(BOTH, "--set", "rollout.podTemplate=Recreate", **REDIS)
    wait_for("the cluster is another one", lambda: cluster.uids().isdisjoint(pods))
    cluster.settle()
    before, heads = cluster.pids(), cluster.heads()
    with Load(cluster, "left", retries=3) as load:
        cluster.delete_pod(*heads.values())
        seconds = wait_for("another head is ready", lambda: cluster.heads().keys() - heads.keys() != set())
        seconds += wait_for("Serve answers again", lambda: cluster.states() == dict.fromkeys(BOTH, "RUNNING"))
        measured("the head deleted, with Redis: until another one has taken over", seconds)
        cluster.upgrade(BOTH | {"left": LEFT | {"replicas": 2}}, **REDIS)
        measured("that head: until it has started one replica more", cluster.settle())
    assert load.failed == []
    assert before["left"] < cluster.pids()["left"]
    assert before["right"] == cluster.pids()["right"]
    cluster.upgrade(BOTH, **REDIS)
    cluster.settle()
