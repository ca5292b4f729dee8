"""Where the replicas of each model are, from what Ray Serve says of itself. Pure."""

import ipaddress
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

REPLICA = "SERVE_REPLICA::"  # how Serve names them; a model without one is listed with Serve's own proxies

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Address(NamedTuple):
    """Where a replica answers."""

    host: str
    port: int


def addresses(details: dict[str, Any], known: Mapping[str, list[Address]] = NOTHING) -> dict[str, list[Address]]:
    """The replicas that run and take requests, by model, in a stable order.

    A replica that starts, or drains, is not among them. While Serve builds an edited application, and when it could not
    (a mistaken argument), it says nothing of the replicas, which run on: then they are those that were known.

    Args:
        details: what Ray's `GET /api/serve/applications/` answers.
        known: what this returned the last time.
    """
    host = (details.get("http_options") or {}).get("host") or "0.0.0.0"  # noqa: S104  (Serve's word for "everywhere")
    found: dict[str, list[Address]] = {}
    for group in details.get("target_groups", []):
        if group["protocol"] != "HTTP":
            continue
        replicas = [target for target in group["targets"] if target["name"].startswith(REPLICA)]
        name = group["app_name"]
        application = details.get("applications", {}).get(name)
        if not replicas and application and not application["deployments"] and application["status"] != "DELETING":
            found[name] = known.get(name, [])
            continue
        found[name] = sorted(Address(_reached(host, target["ip"]), target["port"]) for target in replicas)
    return found


def _reached(listens: str, ip: str) -> str:
    """Serve names a replica by its node's address, also where it listens on another one alone."""
    return ip if ipaddress.ip_address(listens).is_unspecified else listens
