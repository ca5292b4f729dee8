"""Where Ray Serve says that replicas are. The shape of `details` is that of Ray 2.60's ServeInstanceDetails."""

from typing import Any

import pytest

from gateway.replicas import Address, addresses


def target(ip: str, port: int, name: str = "SERVE_REPLICA::m#Model#abc") -> dict[str, Any]:
    return {"ip": ip, "port": port, "instance_id": "i", "name": name}


def group(*targets: dict[str, Any], model: str = "m", protocol: str = "HTTP") -> dict[str, Any]:
    return {"targets": list(targets), "route_prefix": f"/models/{model}", "protocol": protocol, "app_name": model}


def details(*groups: dict[str, Any], host: str | None = "0.0.0.0") -> dict[str, Any]:
    return {"http_options": {"host": host, "port": 8000}, "target_groups": list(groups)}


def test_each_model_has_its_replicas() -> None:
    found = addresses(details(group(target("10.0.0.1", 30000)), group(target("10.0.0.2", 30001), model="n")))
    assert found == {"m": [Address("10.0.0.1", 30000)], "n": [Address("10.0.0.2", 30001)]}


def test_the_order_is_that_of_the_addresses_whatever_order_serve_has() -> None:
    """Else the file would change, and Envoy take it over, at each look."""
    targets = [target("10.0.0.2", 30000), target("10.0.0.1", 30009), target("10.0.0.1", 30000)]
    forth, back = addresses(details(group(*targets))), addresses(details(group(*reversed(targets))))
    assert forth == back == {"m": [("10.0.0.1", 30000), ("10.0.0.1", 30009), ("10.0.0.2", 30000)]}


def test_serves_own_proxies_are_no_replicas() -> None:
    """Serve lists a model without replicas with them, and they would hold its requests for ever."""
    found = addresses(details(group(target("10.0.0.1", 8000, name="SERVE_PROXY_ACTOR-abc"))))
    assert found == {"m": []}


def test_a_groups_grpc_ports_are_none_of_ours() -> None:
    """Serve lists each application once for each protocol."""
    http, grpc = target("10.0.0.1", 30000), target("10.0.0.1", 40000)
    for groups in ((group(http), group(grpc, protocol="gRPC")), (group(grpc, protocol="gRPC"), group(http))):
        assert addresses(details(*groups)) == {"m": [("10.0.0.1", 30000)]}


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "192.168.7.7"])
def test_replicas_that_listen_on_one_address_are_reached_there(host: str) -> None:
    """Serve names them by their nodes' addresses all the same."""
    assert addresses(details(group(target("10.0.0.1", 30000)), host=host)) == {"m": [(host, 30000)]}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", None])
def test_replicas_that_listen_everywhere_are_reached_at_their_nodes(host: str | None) -> None:
    assert addresses(details(group(target("10.0.0.1", 30000)), host=host)) == {"m": [("10.0.0.1", 30000)]}


@pytest.mark.parametrize("empty", [{}, {"http_options": None}, {"target_groups": []}])
def test_a_serve_that_has_not_begun_has_no_replicas(empty: dict[str, Any]) -> None:
    assert addresses(empty) == {}


@pytest.mark.parametrize(
    ("status", "deployments", "there"),
    [
        ("DEPLOYING", {}, True),
        ("DEPLOY_FAILED", {}, True),
        ("DELETING", {}, False),
        ("DEPLOYING", {"Model": {}}, False),
    ],
)
def test_replicas_that_serve_says_nothing_of_run_on(status: str, deployments: dict[str, Any], there: bool) -> None:
    """While it builds an edited application, and when it could not build it."""
    before = {"m": [Address("10.0.0.1", 30000)]}
    silent = details(group(target("10.0.0.1", 8000, name="SERVE_PROXY_ACTOR-abc")))
    silent["applications"] = {"m": {"status": status, "deployments": deployments}}
    assert addresses(silent, before) == (before if there else {"m": []})
