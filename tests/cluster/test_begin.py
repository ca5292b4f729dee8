"""From nothing to models that answer, each where it fits best. The tests share one cluster and run in order."""

import httpx
import pytest

from tests.cluster.conftest import BOTH, LARGE, LEFT, SMALL, Cluster, measured

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


def test_install_to_the_first_answer(cluster: Cluster) -> None:
    """The smallest device that holds it is its place."""
    cluster.upgrade({"left": LEFT})
    measured("helm install to the first answer", cluster.settle())
    assert [model.id for model in cluster.client().models.list()] == ["left"]
    assert cluster.devices("left") == {SMALL}


def test_a_model_comes_goes_where_it_fits_and_leaves_the_other_alone(cluster: Cluster) -> None:
    before = cluster.pids()
    cluster.upgrade(BOTH)
    measured("helm upgrade with one model more, to its first answer", cluster.settle())
    assert cluster.pids()["left"] == before["left"]
    assert (cluster.devices("left"), cluster.devices("right")) == ({SMALL}, {LARGE})


def test_the_page_shows_the_devices_of_every_agent(cluster: Cluster) -> None:
    """Found by the name of a Service without an address."""
    cluster.upgrade(BOTH)
    cluster.settle()
    page = httpx.get(f"{cluster.gateway}/", timeout=30)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    found = httpx.get(f"{cluster.gateway}/status", timeout=30).json()
    devices = {device["id"]: device for node in found["nodes"] for device in node["devices"]}
    assert {id_: [one["model"] for one in device["holders"]] for id_, device in devices.items()} == {
        SMALL: ["left"],
        LARGE: ["right"],
    }
    assert {model["name"]: model["status"] for model in found["models"]} == {"left": "RUNNING", "right": "RUNNING"}
