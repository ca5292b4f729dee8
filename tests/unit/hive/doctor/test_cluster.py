"""What checks take from a release's manifest, and what the API's refusals become."""

import httpx
import kr8s
import pytest

from hive.doctor.cluster import Installed, _told
from hive.doctor.finding import ForbiddenError
from hive.errors import HiveError
from tests.chart import helm

MODELS = {"a": {"source": "org/a", "vram": "4Gi"}, "off": {"source": "org/b", "vram": "4Gi", "replicas": 0}}


def installed(**more: object) -> Installed:
    """From what the chart really renders."""
    values = {"models": MODELS, "gateway": {"keysSecret": "keys"}} | more
    return Installed({"name": "hive", "version": 1, "status": "deployed"}, helm.render(values))


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


@pytest.mark.parametrize(("status", "kind"), [(403, ForbiddenError), (401, ForbiddenError), (404, HiveError)])
def test_refusals_of_the_api_are_errors_with_a_mend(status: int, kind: type[HiveError]) -> None:
    answer = httpx.Response(status, request=httpx.Request("GET", "http://api"))
    with pytest.raises(HiveError) as told, _told("nodes"):
        raise kr8s.ServerError("no", response=answer)
    assert type(told.value) is kind
    assert "nodes" in told.value.what


def test_an_api_that_is_away_is_one_too() -> None:
    with pytest.raises(HiveError, match="does not answer"), _told("nodes"):
        raise httpx.ConnectError("refused")
