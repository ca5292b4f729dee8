"""Pods that do not run, with the reason that Kubernetes gives."""

import pytest

from hive.doctor import pods
from hive.doctor.finding import Verdict
from tests.unit.hive.doctor.objects import Json, only, pod, verdicts

OK, WARNING, FAILED = Verdict


def container(waiting: Json | None = None, last: Json | None = None, restarts: int = 0) -> Json:
    state = {"waiting": waiting} if waiting else {"running": {}}
    return {"name": "it", "state": state, "lastState": last or {}, "restartCount": restarts}


def test_pods_that_run_are_counted() -> None:
    assert "2 pods run" in only(pods.running([pod("a"), pod("b", containerStatuses=[container()])])).what


def unscheduled(message: str) -> Json:
    return pod("a", phase="Pending", conditions=[{"type": "PodScheduled", "status": "False", "message": message}])


@pytest.mark.parametrize(
    ("message", "mend"),
    [
        ("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.", "workerGroups"),
        ("0/3 nodes are available: 3 node(s) had untolerated taint {a: b}", "tolerations"),
        ("0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector", "nodeSelector"),
        ("something new", "describe pod a"),
    ],
)
def test_the_schedulers_reason_is_told_with_a_mend(message: str, mend: str) -> None:
    finding = only(pods.running([unscheduled(message)]))
    assert finding.verdict is FAILED
    assert message in finding.what
    assert mend in finding.fix


@pytest.mark.parametrize(
    ("status", "words", "mend"),
    [
        (container({"reason": "ImagePullBackOff", "message": "not found"}), "not found", "imagePullSecrets"),
        (container({"reason": "CreateContainerConfigError", "message": 'secret "x" not found'}), "x", "Secret"),
        (container({"reason": "CrashLoopBackOff"}), "CrashLoopBackOff", "--previous"),
        (
            container({"reason": "CrashLoopBackOff"}, {"terminated": {"reason": "OOMKilled"}}),
            "OOMKilled",
            "memory limit",
        ),
    ],
)
def test_a_container_that_does_not_start_says_why(status: Json, words: str, mend: str) -> None:
    finding = only(pods.running([pod("a", containerStatuses=[status])]))
    assert finding.verdict is FAILED
    assert words in finding.what
    assert mend in finding.fix


def test_a_container_that_is_being_made_is_no_trouble() -> None:
    creating = container({"reason": "ContainerCreating"})
    assert verdicts(pods.running([pod("a", phase="Pending", containerStatuses=[creating])])) == [OK]


def test_an_init_container_counts_and_so_does_an_evicted_pod() -> None:
    stuck = pod("a", initContainerStatuses=[container({"reason": "ErrImagePull"})])
    evicted = pod("b", phase="Failed", reason="Evicted", message="low on memory")
    assert verdicts(pods.running([stuck, evicted])) == [FAILED, FAILED]


def test_many_restarts_are_a_warning() -> None:
    assert verdicts(pods.running([pod("a", containerStatuses=[container(restarts=9)])])) == [WARNING]


@pytest.mark.parametrize(
    ("message", "mend"),
    [
        ('violates PodSecurity "baseline:latest": hostPath volumes', "enforce=privileged"),
        ("exceeded quota: small", "ResourceQuota"),
        ("webhook said no", "see the message"),
    ],
)
def test_a_pod_that_may_not_be_made_is_said_once(message: str, mend: str) -> None:
    event = {"involvedObject": {"kind": "DaemonSet", "name": "hive-agent"}, "message": message}
    finding = only(pods.refused([event, event]))
    assert message in finding.what
    assert mend in finding.fix
