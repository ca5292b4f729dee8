"""Ray Serve's REST API on the dashboard, as far as Hive needs it."""

from collections.abc import Mapping
from typing import Any

import httpx

from gateway.applications import Application, Replica, applications, reason
from hive.ray_api import RayApi

__all__ = ["Application", "Replica", "ServeApi", "applications", "deployed_config", "reason"]

Json = dict[str, Any]
PATH = "/api/serve/applications/"


class ServeApi(RayApi):
    """Ray Serve's part of one dashboard."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        super().__init__(url, headers, timeout=60)

    def answers(self) -> bool:
        """Whether the dashboard is up."""
        try:
            return self._http.get("/api/version").is_success
        except httpx.TransportError:
            return False

    def alive_nodes(self) -> int:
        """How many Ray nodes have registered and live, the head included.

        Raises:
            HiveError: the dashboard does not answer.
        """
        return sum(node["state"] == "ALIVE" for node in self.nodes())

    def details(self) -> Json:
        """Everything that Serve says.

        Raises:
            HiveError: it does not answer.
        """
        details: Json = self._ask("GET", PATH).json()
        return details

    def apply(self, config: Json) -> None:
        """Make this config the whole target state.

        Raises:
            HiveError: Serve refuses it, or does not answer.
        """
        self._ask("PUT", PATH, json=config)

    def shut_down(self) -> None:
        """Stop every application and Serve itself.

        Raises:
            HiveError: it does not answer.
        """
        self._ask("DELETE", PATH)


def deployed_config(details: Json) -> Json:
    """The config that runs now, in the shape of a rendered one."""
    apps = [app["deployed_app_config"] for app in details["applications"].values()]
    return {"applications": [app for app in apps if app]}
