"""What a cluster needs before anything of Hive can run there."""

import pytest

from hive.doctor.finding import Verdict
from hive.doctor.prerequisites import admission, crds, kubernetes, numbers, operators
from tests.unit.hive.doctor.objects import Json, named, only, verdicts, workload

OK, WARNING, FAILED = Verdict
IMAGE = "example.org/kuberay/operator:v1.7.0"


@pytest.mark.parametrize(("version", "verdict"), [("v1.34.4+k3s1", OK), ("v1.28.0", OK), ("v1.27.16-gke.1", FAILED)])
def test_kubernetes_is_as_new_as_the_chart_asks(version: str, verdict: Verdict) -> None:
    finding = only(kubernetes(version, ">=1.28.0-0"))
    assert finding.verdict is verdict
    assert version in finding.what


@pytest.mark.parametrize(
    ("text", "found"), [("v1.34.4", (1, 34, 4)), (">=1.28.0-0", (1, 28, 0)), ("nightly", ()), ("sha-1a2b", ())]
)
def test_versions_are_numbers(text: str, found: tuple[int, ...]) -> None:
    assert numbers(text) == found


def crd(name: str, **served: bool) -> Json:
    return named(name, spec={"versions": [{"name": version, "served": it} for version, it in served.items()]})


def test_crds_are_there_and_serve_what_the_chart_writes() -> None:
    both = [crd("rayservices.ray.io", v1=True, v1alpha1=False), crd("rayclusters.ray.io", v1=True)]
    assert verdicts(crds(both)) == [OK, OK]
    assert verdicts(crds(both[:1])) == [OK, FAILED]
    old = crd("rayclusters.ray.io", v1alpha1=True, v1=False)
    assert verdicts(crds([both[0], old])) == [OK, FAILED]


def test_one_operator_that_is_new_enough_is_well() -> None:
    assert "ns/operator is 1.7.0" in only(operators([workload("operator", IMAGE)], "llm", None)).what
    assert verdicts(operators([workload("operator", IMAGE)], "llm", None)) == [OK]


@pytest.mark.parametrize(
    ("deployment", "verdict", "words"),
    [
        (workload("operator", "example.org/kuberay/operator:v1.6.2"), FAILED, "1.6.2"),
        (workload("operator", "example.org/kuberay/operator:nightly"), WARNING, "can't be told"),
        (workload("operator", IMAGE, "--watch-namespace=a,b"), FAILED, "does not watch namespace llm"),
        (workload("web", "example.org/nginx:1.7.0"), FAILED, "not here"),
    ],
)
def test_an_operator_that_will_not_do(deployment: Json, verdict: Verdict, words: str) -> None:
    finding = only(operators([deployment], "llm", None))
    assert (finding.verdict, words in finding.what) == (verdict, True)


def test_an_operator_that_is_not_ready_is_said_beside_its_version() -> None:
    assert verdicts(operators([workload("operator", IMAGE, ready=0)], "llm", None)) == [FAILED, OK]


def test_its_label_tells_an_operator_whose_image_does_not() -> None:
    mirrored = workload("ray", "example.org/mirror/ray-op:1.8.1")
    mirrored["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"] = "kuberay-operator"
    assert "1.8.1" in only(operators([mirrored], "llm", None)).what


def test_two_operators_fight_only_where_both_watch() -> None:
    one, other = workload("one", IMAGE), workload("other", IMAGE, "--watch-namespace", "llm")
    assert verdicts(operators([one, other], "llm", None)) == [FAILED, OK, OK]
    assert verdicts(operators([one, other], "elsewhere", None)) == [OK]
    off = workload("off", IMAGE)
    off["spec"]["replicas"] = 0
    assert verdicts(operators([one, off], "llm", None)) == [OK]


def test_an_operator_that_runs_elsewhere_shows_in_the_rayservice() -> None:
    service = {"status": {"activeServiceStatus": {"rayClusterName": "hive-abc"}}}
    assert only(operators([], "llm", service)).verdict is WARNING
    assert only(operators([], "llm", {"status": {}})).verdict is FAILED


@pytest.mark.parametrize(
    ("level", "verdict"), [("baseline", FAILED), ("restricted", FAILED), ("privileged", OK), (None, OK)]
)
def test_pod_security_that_refuses_the_agent(level: str | None, verdict: Verdict) -> None:
    labels = {"pod-security.kubernetes.io/enforce": level} if level else {}
    assert only(admission("llm", named("llm", metadata={"labels": labels}))).verdict is verdict


def test_a_namespace_that_is_not_there_yet_refuses_nothing() -> None:
    assert "not there yet" in only(admission("llm", None)).what
