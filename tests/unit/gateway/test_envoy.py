"""What Envoy is told while it runs. That Envoy takes it: tests/chart/test_gateway.py."""

from gateway import envoy
from gateway.replicas import Address


def test_replicas_say_whose_they_are_and_keep_their_order() -> None:
    (assignment,) = envoy.replicas({"n": [Address("10.0.0.3", 3)], "m": [Address("10.0.0.2", 2), Address("::1", 1)]})[
        "resources"
    ]
    assert assignment["cluster_name"] == "replicas"
    (locality,) = assignment["endpoints"]
    found = [
        (one["metadata"]["filter_metadata"]["envoy.lb"], one["endpoint"]["address"]["socket_address"])
        for one in locality["lb_endpoints"]
    ]
    assert found == [
        ({"model": "m"}, {"address": "10.0.0.2", "port_value": 2}),
        ({"model": "m"}, {"address": "::1", "port_value": 1}),
        ({"model": "n"}, {"address": "10.0.0.3", "port_value": 3}),
    ]


def test_models_in_another_order_are_no_other_file() -> None:
    """Envoy would take it over for nothing."""
    a, b = {"a": [Address("10.0.0.1", 1)]}, {"b": [Address("10.0.0.2", 2)]}
    assert envoy.replicas(a | b) == envoy.replicas(b | a)


def test_without_replicas_there_is_a_resource_all_the_same() -> None:
    """Without one Envoy would wait for it, and keep the replicas that it knew."""
    (assignment,) = envoy.replicas({})["resources"]
    assert assignment["cluster_name"] == "replicas"
    assert assignment["endpoints"] == [{"lb_endpoints": []}]


def test_every_key_says_whose_it_is_and_none_reaches_a_replica() -> None:
    (extension,) = envoy.keys({"bob": ["k3"], "alice": ["k1", "k2"]})["resources"]
    config = extension["typed_config"]
    assert [(one["client"], one["key"]) for one in config["credentials"]] == [
        ("alice", "k1"),
        ("alice", "k2"),
        ("bob", "k3"),
    ]
    assert config["forwarding"] == {"header": "x-hive-client", "hide_credentials": True}


def test_nobodys_keys_let_nobody_in() -> None:
    """The filter stays, with none to compare to."""
    (extension,) = envoy.keys({})["resources"]
    assert extension["name"] == "keys"
    assert extension["typed_config"]["credentials"] == []
