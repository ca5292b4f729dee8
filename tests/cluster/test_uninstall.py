"""What Helm installed, and what came of it, goes with it."""

import pytest

from tests.cluster.conftest import BOTH, NAMESPACE, RELEASE, Cluster, measured, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


def test_uninstall_leaves_nothing(cluster: Cluster) -> None:
    if not cluster.asked:  # run by itself
        cluster.upgrade(BOTH)
    done = cluster.helm("uninstall", RELEASE, "-n", NAMESPACE, "--wait", "--timeout", "5m")
    assert done.returncode == 0, done.stderr
    pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
    measured("helm uninstall, until no pod is left", wait_for("all pods end", lambda: not cluster.get(pods)["items"]))
    for kind in ("secrets", "configmaps", "services", "serviceaccounts"):
        left = [one["metadata"]["name"] for one in cluster.get(f"/api/v1/namespaces/{NAMESPACE}/{kind}")["items"]]
        assert [name for name in left if name.startswith(RELEASE)] == []
