"""Ray Serve's REST API on the dashboard, as far as Hive needs it."""

import re
from collections.abc import Mapping
from typing import Any

import httpx
from pydantic import BaseModel

from hive.errors import HiveError

Json = dict[str, Any]
RAISED = re.compile(r"^(?:[\w.]+\.)?\w*(?:Error|Exception)\w*: ", re.MULTILINE)
SLOW = re.compile(r"taken more than \d+s to initialize")  # an engine loads for longer than Serve thinks usual


class Replica(BaseModel):
    """One engine."""

    id: str
    state: str
    node: str
    pid: int | None


class Application(BaseModel):
    """One model, as Serve sees it."""

    name: str
    status: str
    reason: str
    wanted: int
    replicas: list[Replica]

    @property
    def ready(self) -> bool:
        """Every wanted replica runs and no other is left."""
        running = [replica for replica in self.replicas if replica.state == "RUNNING"]
        return self.status == "RUNNING" and len(running) == len(self.replicas) == self.wanted

    @property
    def failed(self) -> bool:
        """Serve has given up. (UNHEALTHY is a replica that died and is being replaced.)"""
        return self.status == "DEPLOY_FAILED"


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

    def _send(self, method: str, body: Json | None = None) -> httpx.Response:
        try:
            response = self._http.request(method, "/api/serve/applications/", json=body)
        except httpx.TransportError as error:
            raise HiveError(
                f"Ray's dashboard at {self.url} does not answer ({error!r})",
                "look into the logs of Ray's head; on this machine also: hive down, hive up",
            ) from error
        if response.is_error:
            raise HiveError(f"Ray Serve answers {response.status_code}: {response.text[-2000:]}", "see the message")
        return response


def applications(details: Json) -> list[Application]:
    """The models in Serve's answer, by name."""
    found = []
    for name, app in sorted(details["applications"].items()):
        deployments = app["deployments"].values()
        messages = [app["message"], *(deployment["message"] for deployment in deployments)]
        found.append(
            Application(
                name=name,
                status=app["status"],
                reason=reason(max((text for text in messages if not SLOW.search(text)), key=len, default="")),
                wanted=sum(deployment["target_num_replicas"] for deployment in deployments),
                replicas=[
                    Replica(id=r["replica_id"], state=r["state"], node=r.get("node_ip") or "", pid=r.get("pid"))
                    for deployment in deployments
                    for r in deployment["replicas"]
                ],
            )
        )
    return found


def deployed_config(details: Json) -> Json:
    """The config that runs now, in the shape of a rendered one."""
    apps = [app["deployed_app_config"] for app in details["applications"].values()]
    return {"applications": [app for app in apps if app]}


def reason(message: str) -> str:
    """What matters in a message of Serve's, which may be a Python traceback: the text of its last exception."""
    raised = list(RAISED.finditer(message))
    if not raised:
        return message.strip()
    lines = message[raised[-1].end() :].split("\n\n", maxsplit=1)[0].splitlines()
    return "\n".join(line for line in lines if not line.startswith('  File "')).strip()
