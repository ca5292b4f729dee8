"""The models as Ray Serve sees them, in what its dashboard says of its applications. Pure."""

import re
from typing import Any

from pydantic import BaseModel

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


def reason(message: str) -> str:
    """What matters in a message of Serve's, which may be a Python traceback: the text of its last exception."""
    raised = list(RAISED.finditer(message))
    if not raised:
        return message.strip()
    lines = message[raised[-1].end() :].split("\n\n", maxsplit=1)[0].splitlines()
    return "\n".join(line for line in lines if not line.startswith('  File "')).strip()
