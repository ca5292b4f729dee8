"""A release against what runs."""

from typing import Any

import pytest
import yaml

from hive.doctor import release
from hive.doctor.finding import Verdict
from hive.doctor.release import Reference
from hive.serve_api import Application, Replica
from tests.unit.hive.doctor.objects import Json, named, only, verdicts
from tests.unit.release.test_changes import cluster, group, pod
from tests.unit.release.test_changes import service as changed

OK, WARNING, FAILED = Verdict


def app(name: str, **args: Any) -> Json:
    return {"name": name, "args": args, "deployments": [{"name": "model", "num_replicas": 1}]}


def service(*apps: Json, workers: int = 2, **status: Any) -> Json:
    found = changed(group("a", workers)) | {"metadata": {"name": "hive", "namespace": "llm"}}
    found["spec"]["serveConfigV2"] = yaml.safe_dump({"applications": list(apps)})
    found["status"] |= status
    return found


@pytest.mark.parametrize(("state", "verdict"), [("deployed", OK), ("failed", FAILED), ("pending-upgrade", FAILED)])
def test_helms_own_state(state: str, verdict: Verdict) -> None:
    finding = only(release.status({"name": "hive", "status": state, "revision": 3}))
    assert (finding.verdict, state in finding.what) == (verdict, True)


def test_every_secret_that_pods_name_is_found_wherever_it_stands() -> None:
    spec = {
        "imagePullSecrets": [{"name": "pull"}],
        "containers": [
            {
                "envFrom": [{"secretRef": {"name": "hub"}}, {"secretRef": {"name": "maybe", "optional": True}}],
                "env": [{"valueFrom": {"secretKeyRef": {"name": "redis", "key": "password"}}}],
            }
        ],
        "volumes": [{"secret": {"secretName": "keys"}}, {"secret": {"secretName": "own"}}],
    }
    objects = [{"kind": "Deployment", "spec": spec}, {"kind": "Secret", **named("own")}]
    assert release.secrets(objects) == {
        Reference("pull", None),
        Reference("hub", None),
        Reference("redis", "password"),
        Reference("keys", None),
    }


def test_secrets_are_there_and_hold_something() -> None:
    there = {"keys": ["alice", "bob"], "redis": ["password"], "empty": []}

    def verdict(name: str, key: str | None = None) -> Verdict:
        return only(release.secrets_there({Reference(name, key)}, there, "llm")).verdict

    assert (verdict("keys"), verdict("redis", "password")) == (OK, OK)
    assert (verdict("gone"), verdict("redis", "user"), verdict("empty")) == (FAILED, FAILED, FAILED)


def test_no_drift() -> None:
    same = service(app("m", vramMib=1))
    pods = [pod("a-1", "a", "new"), pod("head", "headgroup", "head-new")]
    assert verdicts(release.drift(same, same, cluster(group("a", 2)), pods)) == [OK, OK, OK]


def test_each_drift_is_said() -> None:
    asked, edited = service(app("m", vramMib=1)), service(app("m", vramMib=2))
    found = list(release.drift(edited, asked, cluster(group("a", 1)), [pod("a-1", "a", "old")]))
    assert verdicts(found) == [FAILED, WARNING, FAILED]
    assert ["vramMib 2 -> 1" in found[0].what, "a-1" in found[1].what, "a.replicas: 2" in found[2].what] == [True] * 3
    assert only(release.drift(None, asked, None, [])).verdict is FAILED
    assert verdicts(release.drift(asked, asked, None, [])) == [OK, FAILED]


def test_serve_has_taken_the_config_over() -> None:
    asked = {"applications": [app("m", vramMib=2), app("new")]}
    assert only(release.applied(asked, asked)).verdict is OK
    finding = only(release.applied(asked, {"applications": [app("m", vramMib=1)]}))
    assert finding.verdict is FAILED
    assert "m restarts, new starts" in finding.what


def test_conditions_of_the_rayservice() -> None:
    ready = {"type": "Ready", "status": "True", "reason": "NonZeroServeEndpoints"}
    waits = {"type": "Ready", "status": "False", "reason": "ZeroServeEndpoints", "message": "no endpoint"}
    upgrading = {"type": "UpgradeInProgress", "status": "True", "reason": "BothActivePendingClustersExist"}
    assert verdicts(release.conditions(service(conditions=[ready]))) == []
    assert verdicts(release.conditions(service(conditions=[waits, upgrading]))) == [WARNING, WARNING]


def application(status: str, *replicas: str, wanted: int = 1, reason: str = "") -> Application:
    found = [Replica(id=f"r{number}", state=state, node="", pid=None) for number, state in enumerate(replicas)]
    return Application(name="m", status=status, reason=reason, wanted=wanted, replicas=found)


@pytest.mark.parametrize(
    ("found", "verdict", "words"),
    [
        ([application("RUNNING", "RUNNING")], OK, "serves, 1 of 1"),
        ([application("RUNNING", "RUNNING", "STARTING", wanted=2)], WARNING, "1 of 2"),
        ([application("DEPLOYING", "STARTING")], FAILED, "0 of 1"),
        ([application("DEPLOY_FAILED", "RUNNING", reason="a\nno room. FIX: lower vram")], FAILED, "no room"),
        ([], FAILED, "has none"),
    ],
)
def test_models_serve(found: list[Application], verdict: Verdict, words: str) -> None:
    finding = only(release.models(found, ["m"]))
    assert (finding.verdict, words in finding.what) == (verdict, True)


def test_a_reason_brings_its_own_mend() -> None:
    failing = application("DEPLOY_FAILED", reason="no room. FIX: lower vram")
    assert only(release.models([failing], ["m"])).fix == "lower vram"
