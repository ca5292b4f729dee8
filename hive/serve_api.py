"""Ray Serve's REST API on the dashboard, as far as Hive needs it."""

from collections.abc import Mapping
from typing import Any

import httpx

from gateway.applications import Application, Replica, applications, reason
from hive.errors import HiveError

__all__ = ["Application", "Replica", "ServeApi", "applications", "deployed_config", "reason"]

Json = dict[str, Any]


class ServeApi:
    """Talks to one dashboard.

    Args:
        url: like http://127.0.0.1:8265.
        headers: that it asks for.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, headers=headers, timeout=60)

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
        listed = self._send("GET", path="/api/v0/nodes").json()["data"]["result"]["result"]
        return sum(node["state"] == "ALIVE" for node in listed)

    def details(self) -> Json:
        """Everything that Serve says.

        Raises:
            HiveError: it does not answer.
        """
        response = self._send("GET")
        details: Json = response.json()
        return details

    def apply(self, config: Json) -> None:
        """Make this config the whole target state.

        Raises:
            HiveError: Serve refuses it, or does not answer.
        """
        self._send("PUT", config)

    def shut_down(self) -> None:
        """Stop every application and Serve itself.

        Raises:
            HiveError: it does not answer.
        """
        self._send("DELETE")

    def _send(self, method: str, body: Json | None = None, path: str = "/api/serve/applications/") -> httpx.Response:
        try:
            response = self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            raise HiveError(
                f"Ray's dashboard at {self.url} does not answer ({error!r})",
                "look into the logs of Ray's head; on this machine also: hive down, hive up",
            ) from error
        if response.is_error:
            raise HiveError(f"Ray answers {response.status_code}: {response.text[-2000:]}", "see the message")
        return response


def deployed_config(details: Json) -> Json:
    """The config that runs now, in the shape of a rendered one."""
    apps = [app["deployed_app_config"] for app in details["applications"].values()]
    return {"applications": [app for app in apps if app]}
