"""What Envoy reads while it runs (xDS, as files). Pure.

Sources: Envoy's api/envoy/config/endpoint/v3/endpoint.proto and
api/envoy/extensions/filters/http/api_key_auth/v3/api_key_auth.proto.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.replicas import Address

Json = dict[str, Any]
TYPE = "type.googleapis.com/envoy."
CLIENT_HEADER = "x-hive-client"  # who asks, for routes, logs and metrics; taken from nobody outside


def replicas(serving: Mapping[str, Iterable[Address]]) -> Json:
    """The replicas of all models. Routes choose by the model that stands with each."""
    endpoints = [
        {
            "endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}},
            "metadata": {"filter_metadata": {"envoy.lb": {"model": model}}},
        }
        for model, addresses in sorted(serving.items())
        for host, port in addresses
    ]
    assignment = {
        "@type": f"{TYPE}config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": "replicas",
        "endpoints": [{"lb_endpoints": endpoints}],
    }
    return {"resources": [assignment]}


def keys(clients: Mapping[str, Iterable[str]]) -> Json:
    """The filter that lets only clients with a key through, and takes the key off what it passes on."""
    credentials = [{"client": client, "key": key} for client, own in sorted(clients.items()) for key in own]
    config = {
        "@type": f"{TYPE}extensions.filters.http.api_key_auth.v3.ApiKeyAuth",
        "credentials": credentials,
        "key_sources": [{"header": "authorization"}, {"header": "x-api-key"}],
        "forwarding": {"header": CLIENT_HEADER, "hide_credentials": True},
    }
    return {
        "resources": [
            {"@type": f"{TYPE}config.core.v3.TypedExtensionConfig", "name": "keys", "typed_config": config},
        ]
    }
