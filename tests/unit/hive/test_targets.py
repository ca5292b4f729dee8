"""What targets, commands and views are made of, where no Hive is needed for it."""

import contextlib
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from hive import catalog, keys_of_all, placement, ray_nodes, replica_logs, views
from hive.cluster import release
from hive.cluster.objects import different, outside, waiting
from hive.cluster.target import ClusterHive
from hive.commands.shared import Commands, watching
from hive.errors import HiveError, HiveErrors
from hive.local.run import Folders, Run
from hive.placement import Standing, Worker
from hive.ray_nodes import RayNode
from hive.serve_api import Application, Replica
from hive.settling import RECOVERY_SECONDS, Settling
from vram_agent.api import Lease, LeaseState, State


def app(name: str, status: str = "RUNNING", *own: Replica, reason: str = "", wanted: int | None = None) -> Application:
    wanted = len(own) if wanted is None else wanted
    return Application(name=name, status=status, reason=reason, replicas=list(own), wanted=wanted)


def replica(name: str, node: str = "n", pid: int | None = None, state: str = "RUNNING") -> Replica:
    return Replica(id=name, state=state, node=node, pid=pid)


# -- waiting ---------------------------------------------------------------------------------------------------------


def test_all_serve_when_the_models_that_are_asked_for_do_and_no_other_is_left() -> None:
    settling = Settling({"a", "b"}, 0)
    assert not settling.done([app("a", "RUNNING", replica("1"))], 1)
    assert not settling.done([app("a", "RUNNING", replica("1")), app("b", "DEPLOYING", wanted=1)], 2)
    both = [app("a", "RUNNING", replica("1")), app("b", "RUNNING", replica("2"))]
    assert not settling.done([*both, app("old", "DELETING", replica("3"))], 3)
    assert settling.done(both, 4)


def test_a_model_that_failed_is_told_with_the_mend_of_its_reason_or_its_log() -> None:
    settling = Settling({"a", "b"}, 0)
    failed = [app("a", "DEPLOY_FAILED", reason="no room. FIX: lower vram"), app("b", "DEPLOY_FAILED", reason="odd")]
    with pytest.raises(HiveErrors) as raised:
        settling.done(failed, 1)
    assert str(raised.value) == "ERROR: a: no room. \nFIX: lower vram\nERROR: b: odd\nFIX: see its log: hive logs b"


def test_a_replica_that_died_has_time_to_be_replaced() -> None:
    settling = Settling({"a"}, 0)
    sick = [app("a", "UNHEALTHY", reason="its engine died", wanted=1)]
    assert not settling.done(sick, RECOVERY_SECONDS)
    assert not settling.done([app("a", "DEPLOYING", wanted=1)], RECOVERY_SECONDS + 1)
    assert not settling.done(sick, 2 * RECOVERY_SECONDS + 1)
    with pytest.raises(HiveError, match="its engine died"):
        settling.done(sick, 2 * RECOVERY_SECONDS + 2)


# -- keys, catalog, nodes, logs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gateway", "key"),
    [
        ({"keysSecret": "s"}, "sk-alice"),
        ({"keysSecret": "s", "clients": {"alice": {"models": ["a"]}}}, "sk-bob"),
        ({"keysSecret": "s", "clients": {"alice": {"models": ["a"]}, "bob": {"models": []}}}, None),
        ({"keysSecret": "s", "clients": {"alice": {"requestsPerMinute": 3}}}, "sk-alice"),
        ({"anonymous": True}, None),
    ],
)
def test_a_key_is_one_that_may_ask_every_model(gateway: dict[str, Any], key: str | None) -> None:
    assert keys_of_all.choose({"alice": ["sk-alice"], "bob": ["sk-bob"]}, {"gateway": gateway}) == key


def test_the_catalog_has_every_entry_and_what_runs_without_one() -> None:
    values = {
        "models": {"a": {"source": "x/a", "vram": "1Gi", "aliases": ["z"], "adapters": {"sql": "./s"}}, "off": {}}
    }
    found = catalog.join(
        values, [app("a", "RUNNING", replica("1")), app("old", "DELETING")], {"a": {"max_model_len": 9}}
    )
    assert [(one.name, one.state, one.listed, one.running, one.max_model_len) for one in found] == [
        ("a", "RUNNING", True, 1, 9),
        ("off", catalog.OFF, False, 0, None),
        ("old", "DELETING", False, 0, None),
    ]
    assert (found[0].aliases, found[0].adapters) == (("z",), ("sql",))


def test_workers_are_what_bring_vram() -> None:
    nodes = [
        {
            "state": "ALIVE",
            "node_id": "1",
            "node_ip": "a",
            "resources_total": {"vram_mib": 7424.0, "model_cpus": 4.0, "memory": 8.0},
        },
        {
            "state": "ALIVE",
            "node_id": "2",
            "node_ip": "b",
            "resources_total": {"vram_mib_x2": 9000.0, "model_cpus": 1.0, "memory": 8.0},
        },
        {"state": "DEAD", "resources_total": {"vram_mib": 1.0}},
        {"state": "ALIVE", "resources_total": {"CPU": 4.0}},
    ]
    assert ray_nodes.workers(nodes) == [
        RayNode("1", "a", Worker(7424, 1, 4, 8)),
        RayNode("2", "b", Worker(9000, 2, 1, 8)),
    ]


def test_replicas_stay_where_they_run_but_those_of_models_that_restart_or_end() -> None:
    def app(name: str, **args: Any) -> dict[str, Any]:
        return {"name": name, "args": args, "deployments": [{"name": "Model"}]}

    def ran(config: dict[str, Any], *replicas: dict[str, Any]) -> dict[str, Any]:
        return {"deployed_app_config": config, "deployments": {"Model": {"replicas": replicas}}}

    def one(node: str | None, state: str = "RUNNING", since: float = 2) -> dict[str, Any]:
        return {"node_id": node, "state": state, "start_time_s": since}

    nodes = [
        {"state": "ALIVE", "node_id": id_, "node_ip": "a", "resources_total": {"vram_mib": 7.0}} for id_ in ("x", "y")
    ]
    old = {
        "stays": ran(app("stays"), one("y"), one("x", "STARTING"), one("x", "STOPPING"), one(None)),
        "restarts": ran(app("restarts", seed=1), one("x")),
        "ends": ran(app("ends"), one("x")),
        "older": ran(app("older"), one("x", since=1)),
    }
    new = {"applications": [app("stays"), app("older"), app("restarts", seed=2)]}
    there = ray_nodes.standing(nodes, {"applications": old}, new)
    assert there == Standing(
        [Worker(7, 1, 0, 0)] * 2,
        [placement.Replica("older", 0), placement.Replica("stays", 1), placement.Replica("stays", 0)],
    )


def test_logs_are_of_replicas_that_live_else_of_those_that_died() -> None:
    live = {"replica_id": "r", "actor_id": "aa", "node_id": "bb", "log_file_path": "/serve/r.log"}
    dead = {"replica_id": "d", "actor_id": "cc", "node_id": None, "log_file_path": None}
    deployment: dict[str, Any] = {"replicas": [live], "recent_dead_replicas": [dead]}
    details = {"applications": {"m": {"deployments": {"Model": deployment}}}}
    assert [log.replica for log in replica_logs.logs_of(details, "m")] == ["r", "r", "r"]
    assert (("node_id", "bb"), ("filename", "serve/r.log")) in {log.query for log in replica_logs.logs_of(details, "m")}
    deployment["replicas"] = []
    assert {log.replica for log in replica_logs.logs_of(details, "m")} == {"d"}
    with pytest.raises(HiveError, match="no model 'x'"):
        replica_logs.logs_of(details, "x")


@pytest.mark.parametrize("page", [True, False])
def test_addresses_name_the_page_by_the_one_that_is_outside_if_there_is_one(page: bool) -> None:
    console = Console(record=True, width=120)
    console.print(views.addresses([], ["http://hive-gateway.llm", "https://llm.example"], page))
    assert ("for people: https://llm.example/" in console.export_text()) == page


# -- a cluster -------------------------------------------------------------------------------------------------------


JOBS: dict[str, Any] = {"gpusPerWorker": 0, "resources": {"requests": {"cpu": 1}, "limits": {"memory": "1Gi"}}}
MORE = [{}, {"gpu": {"replicas": 2}}, {"gpu": {"replicas": None, "autoscaling": {"min": 1, "max": 2, "vram": "10Gi"}}}]


@pytest.mark.parametrize(("groups", "refused"), [(MORE[0], True), (MORE[1], False), (MORE[2], False)])
def test_what_has_no_room_is_refused_unless_more_workers_with_gpus_come(
    monkeypatch: pytest.MonkeyPatch, groups: dict[str, Any], refused: bool
) -> None:
    hive = ClusterHive(Mock(), release.Release("hive", "llm", None), None)
    monkeypatch.setattr(hive, "_standing", lambda _: Standing([Worker(8192, 1)]))
    values = {
        "models": {"large": {"source": "./large", "vram": "9Gi"}},
        "workerGroups": {"jobs": {**JOBS, "autoscaling": {"min": 0, "max": 4}}} | groups,
        "gateway": {"anonymous": True},
    }
    with pytest.raises(HiveError, match="replica 1 of large") if refused else contextlib.nullcontext():
        hive.check(values)


def pod(name: str, *states: Any, **status: Any) -> dict[str, Any]:
    containers = [{"name": "main", "state": now, "lastState": last} for now, last in states]
    return {"metadata": {"name": name}, "status": {"containerStatuses": containers} | status}


def test_what_keeps_a_pod_from_running_is_told_in_kubernetes_words() -> None:
    nowhere = [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes: no GPU"}]
    pulling = {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    back_off = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    ended = {"terminated": {"reason": "StartError", "message": "no python"}}
    usual = {"waiting": {"reason": "ContainerCreating"}}
    pods = [pod("p", conditions=nowhere), pod("a", (pulling, {})), pod("b", (back_off, ended)), pod("c", (usual, {}))]
    assert waiting([*pods, pod("d", ({"running": {}}, ended))]) == [
        "p waits for a node: 0/1 nodes: no GPU",
        "a, main: ErrImagePull no such image",
        "b, main: CrashLoopBackOff no python",
    ]


def test_a_gateway_has_an_address_in_the_cluster_and_those_that_lead_to_it() -> None:
    service: dict[str, Any] = {
        "metadata": {"name": "hive-gateway", "namespace": "llm"},
        "spec": {"ports": [{"port": 80}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}},
    }
    ingress = {"spec": {"tls": [{}], "rules": [{"host": "llm.example.com"}]}}
    assert outside([service], [ingress]) == [
        "http://hive-gateway.llm", "http://192.0.2.7", "https://llm.example.com",
    ]  # fmt: skip
    service["spec"]["ports"][0]["port"] = 8080
    assert outside([service | {"status": {}}], []) == ["http://hive-gateway.llm:8080"]


def test_values_that_differ_are_named_by_their_paths() -> None:
    assert different({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}, "e": {}}) == ["a.c", "d", "e"]


KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: here
clusters: [{name: here, cluster: {server: "http://127.0.0.1:9"}}]
contexts: [{name: here, context: {cluster: here, user: me, namespace: llm}}]
users: [{name: me, user: {token: t}}]
"""


def test_a_cluster_that_can_not_be_reached_is_told_with_the_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hive.cli import app as cli

    file = tmp_path / "kubeconfig"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", str(file))
    result = CliRunner().invoke(cli, ["--release", "hive", "status"])
    assert (result.exit_code, "ERROR: no cluster can be reached" in result.stderr) == (1, True)
    file.write_text(KUBECONFIG)
    result = CliRunner().invoke(cli, ["--release", "hive", "--context", "other", "status"])
    assert (result.exit_code, "FIX: set KUBECONFIG, or --context" in result.stderr) == (1, True)
    result = CliRunner().invoke(cli, ["--release", "hive", "models"])
    assert (result.exit_code, "does not answer" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    ("kind", "text", "fix"),
    [
        ("HelmNotFoundError", "release: not found", "helm list -A"),
        ("HelmKubeError", "kubernetes cluster unreachable: refused", "kubectl cluster-info"),
        ("HelmReleaseError", 'no matches for kind "RayService" in version "ray.io/v1"', "KubeRay"),
        ("HelmReleaseError", "another operation (upgrade) is in progress", "helm rollback hive"),
        ("HelmReleaseError", "post-upgrade hooks failed", "helm rollback hive"),
    ],
)
def test_helms_errors_have_a_mend(kind: str, text: str, fix: str) -> None:
    error = release.said(kind, text, "hive")
    assert text in error.what
    assert fix in error.fix


def test_a_change_that_helm_refuses_is_told_by_the_process_that_made_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    with pytest.raises(HiveError, match="Helm says: kubernetes cluster unreachable"):
        release.Release("hive", "llm", None).upgrade({}, "a test")


# -- views and commands ----------------------------------------------------------------------------------------------


def lease(model: str, pid: int) -> Lease:
    return Lease(
        id=f"{model}-{pid}", model=model, state=LeaseState.ACTIVE, bytes=1, devices=("d",), pid=pid, pids=(pid,),
        used={}, charged={}, place=None, since=0,
    )  # fmt: skip


def state(node: str, *leases: Lease) -> State:
    return State(node=node, devices=(), leases=leases, events=(), overheads={})


def test_replicas_have_their_leases_by_pid_and_where_that_means_nothing_by_node() -> None:
    states = {"n": state("n", lease("a", 1), lease("a", 2), lease("b", 3)), "o": state("o", lease("a", 1))}
    by_pid = views.leases_of(app("a", "RUNNING", replica("x", "o", 1), replica("y", "n", 2)), states)
    assert [(r and r.id, one and (one.node, one.lease.pid)) for r, one in by_pid] == [
        ("x", ("o", 1)), ("y", ("n", 2)), (None, ("n", 1)),
    ]  # fmt: skip
    by_node = views.leases_of(app("a", "RUNNING", replica("x", "o"), replica("y", "n"), replica("z", "n")), states)
    assert [one and (one.node, one.lease.pid) for _, one in by_node] == [("o", 1), ("n", 1), ("n", 2)]
    assert views.leases_of(app("c", "DEPLOYING", replica("x", "n", 9)), states)[0][1] is None


def test_ctrl_c_ends_with_130_and_says_what_goes_on() -> None:
    cli = typer.Typer(cls=Commands)

    @cli.command()
    def wait() -> None:
        with watching("the models go on"):
            raise KeyboardInterrupt

    @cli.command()
    def fail() -> None:
        raise HiveError("it is broken", "mend it")

    interrupted = CliRunner().invoke(cli, ["wait"])
    assert (interrupted.exit_code, "the models go on" in interrupted.stderr) == (130, True)
    failed = CliRunner().invoke(cli, ["fail"])
    assert (failed.exit_code, failed.stderr) == (1, "ERROR: it is broken\nFIX: mend it\n")


def test_names_of_models_are_completed_and_nothing_is_said_where_no_hive_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hive.cli import app as cli

    monkeypatch.setenv("HIVE_STATE_DIR", str(tmp_path))
    asked = {"_HIVE_COMPLETE": "complete_bash", "COMP_WORDS": "hive scale ", "COMP_CWORD": "2"}
    result = CliRunner().invoke(cli, [], prog_name="hive", env=asked)
    assert (result.exit_code, result.output.strip()) == (0, "")
    values = tmp_path / "values.yaml"
    values.write_text("models: {chat: {}, code: {}, search: {}}\n")
    Run(str(values), "", "", "", "", "").save(Folders(tmp_path))
    result = CliRunner().invoke(cli, [], prog_name="hive", env=asked | {"COMP_WORDS": "hive scale c"})
    assert result.output.split() == ["chat", "code"]
