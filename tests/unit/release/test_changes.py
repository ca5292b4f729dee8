"""What an upgrade brings to the cluster that runs."""

import copy
from typing import Any

import httpx
import pytest

from release.__main__ import after_upgrade
from release.changes import outdated, templates, told, worker_groups
from release.kubernetes import Kubernetes

Json = dict[str, Any]


def group(name: str, replicas: int, digest: str = "new") -> Json:
    return {
        "groupName": name,
        "replicas": replicas,
        "minReplicas": replicas,
        "maxReplicas": replicas,
        "template": {"metadata": {"annotations": {"hive/template": digest}}},
    }


def service(*groups: Json, running: str = "hive-abc") -> Json:
    head = {"template": {"metadata": {"annotations": {"hive/template": "head-new"}}}}
    return {
        "spec": {"rayClusterConfig": {"headGroupSpec": head, "workerGroupSpecs": list(groups)}},
        "status": {"activeServiceStatus": {"rayClusterName": running}} if running else {},
    }


def cluster(*groups: Json, **more: Any) -> Json:
    return {"spec": {"workerGroupSpecs": list(groups)} | more}


def pod(name: str, group: str, digest: str | None) -> Json:
    annotations = {} if digest is None else {"annotations": {"hive/template": digest}}
    return {"metadata": {"name": name, "labels": {"ray.io/group": group}} | annotations}


def applied(patch: list[Json], cluster: Json) -> Json:
    """The cluster after the patch, as the API server applies it."""
    done = copy.deepcopy(cluster)
    for step in patch:
        *path, last = step["path"].strip("/").split("/")
        target = done
        for part in path:
            target = target[int(part)] if isinstance(target, list) else target[part]
        if step["op"] == "test":
            assert target[last] == step["value"]
        elif step["op"] == "add":
            assert last == "-"
            target.append(step["value"])
        else:
            assert last in target
            target[last] = step["value"]
    return done


def test_counts_follow_the_service_by_the_groups_names() -> None:
    running = cluster(group("a", 1), group("b", 2))
    patch = worker_groups(running, service(group("b", 3), group("a", 1)))
    assert applied(patch, running) == cluster(group("a", 1), group("b", 3))
    assert {step["path"] for step in patch if step["op"] == "test"} == {"/spec/workerGroupSpecs/1/groupName"}


def test_nothing_is_patched_where_counts_are_as_asked() -> None:
    assert worker_groups(cluster(group("a", 1)), service(group("a", 1))) == []


def test_a_group_that_is_not_asked_for_any_more_has_no_workers() -> None:
    running = cluster(group("gone", 4), group("a", 1))
    patch = worker_groups(running, service(group("a", 1)))
    assert applied(patch, running) == cluster(group("gone", 0), group("a", 1))
    assert told(patch) == "gone.replicas: 0, gone.minReplicas: 0, gone.maxReplicas: 0"
    assert worker_groups(cluster(group("gone", 0), group("a", 1)), service(group("a", 1))) == []


def test_a_new_group_comes_behind_the_others_wherever_its_name_sorts() -> None:
    running = cluster(group("b", 1))
    patch = worker_groups(running, service(group("a", 2), group("b", 3)))
    assert applied(patch, running) == cluster(group("b", 3), group("a", 2))
    assert told(patch).endswith("a is new, replicas: 2")


def test_a_new_group_is_not_added_to_a_list_that_changed_meanwhile() -> None:
    patch = worker_groups(cluster(group("b", 1)), service(group("a", 2), group("b", 1)))
    with pytest.raises(AssertionError):
        applied(patch, cluster(group("b", 1), group("a", 2)))  # KubeRay was faster


@pytest.mark.parametrize(("runs", "becomes"), [(1, 2), (3, 3), (9, 5)])
def test_an_autoscaler_keeps_its_count_between_the_bounds(runs: int, becomes: int) -> None:
    asked = group("a", 2) | {"maxReplicas": 5}
    running = cluster(group("a", 1) | {"replicas": runs}, enableInTreeAutoscaling=True)
    (found,) = applied(worker_groups(running, service(asked)), running)["spec"]["workerGroupSpecs"]
    assert (found["replicas"], found["minReplicas"], found["maxReplicas"]) == (becomes, 2, 5)


@pytest.mark.parametrize(("runs", "becomes"), [(4, 4), (9, 5)])
def test_no_worker_goes_because_an_autoscaler_is_asked_for_that_does_not_run_yet(runs: int, becomes: int) -> None:
    asked = service(group("a", 1) | {"maxReplicas": 5})
    asked["spec"]["rayClusterConfig"]["enableInTreeAutoscaling"] = True
    running = cluster(group("a", runs), enableInTreeAutoscaling=False)
    (found,) = applied(worker_groups(running, asked), running)["spec"]["workerGroupSpecs"]
    assert (found["replicas"], found["minReplicas"], found["maxReplicas"]) == (becomes, 1, 5)


def test_without_its_autoscaler_a_group_has_the_count_that_is_asked_for() -> None:
    running = cluster(group("a", 1) | {"replicas": 4, "maxReplicas": 5}, enableInTreeAutoscaling=True)
    (found,) = applied(worker_groups(running, service(group("a", 2))), running)["spec"]["workerGroupSpecs"]
    assert (found["replicas"], found["minReplicas"], found["maxReplicas"]) == (2, 2, 2)


def test_pods_of_another_template_are_named_by_group() -> None:
    pods = [
        pod("head", "headgroup", "head-old"),
        pod("a-1", "a", "new"),
        pod("a-2", "a", "old"),
        pod("a-3", "a", None),
        pod("gone-1", "gone", "new"),
    ]
    wanted = templates(service(group("a", 1)))
    assert outdated(pods, wanted) == {"headgroup": ["head"], "a": ["a-2", "a-3"], "gone": ["gone-1"]}


class Api:
    """The API server's part, with what was written to it."""

    def __init__(self, service: Json, cluster: Json, pods: list[Json]) -> None:
        self.answers = {"rayservices": service, "rayclusters": cluster, "pods": {"items": pods}}
        self.written: list[tuple[str, str, bytes]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method != "GET":
            self.written.append((request.method, request.url.path, request.content))
            return httpx.Response(200, json={})
        kind = next(kind for kind in self.answers if f"/{kind}" in request.url.path)
        return httpx.Response(200, json=self.answers[kind])

    def run(self, rollout: str = "Announce") -> str:
        client = httpx.Client(transport=httpx.MockTransport(self), base_url="http://api")
        return "\n".join(after_upgrade(Kubernetes(client), "llm", "hive", rollout))


def test_counts_are_patched_and_old_pods_announced() -> None:
    api = Api(service(group("a", 2)), cluster(group("a", 1)), [pod("a-1", "a", "old")])
    said = api.run()
    assert [(method, path) for method, path, _ in api.written] == [
        ("PATCH", "/apis/ray.io/v1/namespaces/llm/rayclusters/hive-abc")
    ]
    assert "a-1" in said
    assert "FIX" in said


def test_recreate_ends_the_cluster_only_where_pods_are_old() -> None:
    old = Api(service(group("a", 2)), cluster(group("a", 1)), [pod("a-1", "a", "old")])
    old.run("Recreate")
    assert [method for method, *_ in old.written] == ["DELETE"]
    current = Api(service(group("a", 1)), cluster(group("a", 1)), [pod("a-1", "a", "new")])
    assert current.run("Recreate") == "nothing to do"
    assert current.written == []


def test_a_first_cluster_that_is_not_active_yet_is_brought_up_to_date_too() -> None:
    first = service(group("a", 2), running="")
    first["status"] = {"pendingServiceStatus": {"rayClusterName": "hive-abc"}, "activeServiceStatus": {}}
    api = Api(first, cluster(group("a", 1)), [])
    api.run()
    assert [method for method, *_ in api.written] == ["PATCH"]


def test_nothing_is_touched_before_the_first_cluster() -> None:
    api = Api(service(group("a", 1), running=""), {}, [])
    assert "no cluster" in api.run("Recreate")
    assert api.written == []
