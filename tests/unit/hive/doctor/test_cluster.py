"""What checks take from a release's manifest, and what the API's refusals become."""

from typing import Any

import pytest

from hive.cluster.kubernetes import Kubernetes, Refused
from hive.doctor.cluster import Installed, Reader
from hive.doctor.finding import ForbiddenError
from hive.errors import HiveError
from tests.chart import helm

MODELS = {"a": {"source": "org/a", "vram": "4Gi"}, "off": {"source": "org/b", "vram": "4Gi", "replicas": 0}}


def installed(**more: object) -> Installed:
    """From what the chart really renders."""
    values = {"models": MODELS, "gateway": {"keysSecret": "keys"}} | more
    return Installed("hive", helm.render(values))


def test_the_manifest_says_what_the_release_needs() -> None:
    found = installed()
    assert found.models == ["a"]
    assert found.gpu_resources == {"nvidia.com/gpu"}
    assert found.runtime_classes == set()
    assert found.agent_selector == {"nvidia.com/gpu.present": "true"}


def test_values_change_what_is_needed() -> None:
    found = installed(
        workerGroups={"gpu": {"gpuResource": "", "runtimeClassName": "nvidia"}},
        agent={"nodeSelector": {"nvidia.com/gpu.present": None}, "runtimeClassName": "other"},
    )
    assert found.gpu_resources == set()
    assert found.runtime_classes == {"nvidia", "other"}
    assert found.agent_selector == {}


class Refusing(Kubernetes):
    """An API server that says no to all."""

    def __init__(self, status: int) -> None:
        self.status = status

    def all(self, kind: str, *, everywhere: bool = False) -> list[dict[str, Any]]:
        raise Refused("no", self.status)

    def entries(self, secret: str) -> dict[str, str]:
        raise Refused("no", self.status)


@pytest.mark.parametrize(("status", "kind"), [(403, ForbiddenError), (401, ForbiddenError), (500, Refused)])
def test_what_this_user_may_not_see_is_told_from_what_went_wrong(status: int, kind: type[HiveError]) -> None:
    with pytest.raises(HiveError) as told:
        Reader(Refusing(status)).everywhere("nodes")
    assert type(told.value) is kind
    with pytest.raises(HiveError) as told:
        Reader(Refusing(status)).secrets(["hub-token"])
    assert type(told.value) is kind


def test_a_secret_that_is_not_there_is_left_out() -> None:
    assert Reader(Refusing(404)).secrets(["hub-token"]) == {}
