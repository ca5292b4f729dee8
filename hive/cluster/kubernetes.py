"""What Hive asks of a cluster's API server, and connections to pods by port-forward: they come from the kubelet, so no
NetworkPolicy is in their way."""

import base64
import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any, cast

import anyio
import httpx
import kr8s
from kr8s.asyncio.objects import Pod
from kr8s.objects import Namespace, Secret
from kr8s.portforward import PortForward

from hive.errors import HiveError
from hive.local.processes import free_ports

Json = dict[str, Any]
ANSWER_SECONDS = 30
OPEN_SECONDS = 10


class Kubernetes:
    """One namespace of a cluster."""

    def __init__(self, namespace: str | None, context: str | None) -> None:
        """Reads the kubeconfig.

        Raises:
            HiveError: there is none, or no cluster answers.
        """
        with _asking():
            self._api = kr8s.api(context=context)
            self._api.timeout = ANSWER_SECONDS
        self.namespace = namespace or self._api.namespace
        self._forwards: dict[tuple[str, str | None, int], str] = {}

    def get(self, kind: str, labels: str) -> list[Json]:
        """Objects with these labels, like `app=x,tier=y`.

        Args:
            kind: plural, with its group where it has one: `pods`, `rayservices.ray.io`.

        Raises:
            HiveError: the API server refuses, or does not answer.
        """
        return self._list(kind, namespace=self.namespace, label_selector=labels)

    def all(self, kind: str, *, everywhere: bool = False) -> list[Json]:
        """All objects of a kind, in this namespace or in all.

        Raises:
            HiveError: the API server refuses, or does not answer.
        """
        return self._list(kind, namespace=kr8s.ALL if everywhere else self.namespace)

    def _list(self, kind: str, **more: Any) -> list[Json]:
        with _asking():
            found = self._api.get(kind, raw=True, **more)
            try:
                return [cast("Json", one) for one in found]
            except ValueError as error:
                raise HiveError(f"the cluster knows no {kind}", "install KubeRay's operator and its CRDs") from error

    def version(self) -> str:
        """Of the API server, like v1.34.4.

        Raises:
            HiveError: it does not answer.
        """
        with _asking():
            return str(self._api.version()["gitVersion"])

    def entries(self, secret: str) -> dict[str, str]:
        """The entries of a Secret.

        Raises:
            Refused: it is not there, or may not be read.
            HiveError: the API server does not answer.
        """
        found = Secret({"metadata": {"name": secret, "namespace": self.namespace}}, api=self._api)
        with _asking():
            found.refresh()
        data: Json = found.to_dict().get("data", {})
        return {key: base64.b64decode(value).decode(errors="replace") for key, value in data.items()}

    def secret(self, name: str) -> dict[str, str] | None:
        """The entries of a Secret, or None where it is not there or may not be read.

        Raises:
            HiveError: the API server does not answer.
        """
        try:
            return self.entries(name)
        except Refused:
            return None

    def has_namespace(self) -> bool:
        """Whether the namespace is there, as far as may be seen."""
        try:
            with _asking():
                Namespace({"metadata": {"name": self.namespace}}, api=self._api).refresh()
        except Refused as error:
            return error.status != 404
        return True

    def forward(self, labels: str, port: int, node: str | None = None) -> str:
        """URL of a port of whichever pod has these labels and runs, now and later, as long as this process lives.

        Args:
            node: only a pod of this node.

        Raises:
            HiveError: no such pod runs.
        """
        key = (labels, node, port)
        if key not in self._forwards:
            pods = _Running(self._api, self.namespace, labels, node)
            if not any(runs(pod) for pod in self.get("pods", labels) if node in (None, pod["spec"].get("nodeName"))):
                raise HiveError(
                    f"no pod with {labels} runs in namespace {self.namespace}",
                    f"look at them: kubectl -n {self.namespace} get pods",
                )
            (local,) = free_ports(1)
            PortForward(pods, port, local).start()  # type: ignore[no-untyped-call,arg-type]
            _wait_for(local)
            self._forwards[key] = f"http://127.0.0.1:{local}"
        return self._forwards[key]


class _Running:
    """What a port-forward leads to: kr8s asks anew whenever a connection to the last pod failed."""

    def __init__(self, api: kr8s.Api, namespace: str, labels: str, node: str | None) -> None:
        self._api, self._namespace, self._labels, self._node = api, namespace, labels, node
        self._asked = 0.0

    async def async_ready_pods(self) -> list[Pod]:
        # kr8s itself tries again at once, and for ever.
        await anyio.sleep(max(0.0, self._asked + 1 - time.monotonic()))
        self._asked = time.monotonic()
        found = [
            cast("Pod", one)
            async for one in self._api.async_get("pods", namespace=self._namespace, label_selector=self._labels)
        ]
        return [pod for pod in found if runs(pod.raw) and self._node in (None, pod.raw["spec"].get("nodeName"))]

    ready_pods = async_ready_pods


def runs(pod: Json) -> bool:
    """Whether its containers run and nobody has asked it to end."""
    return pod.get("status", {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]


def port(pods: list[Json], name: str) -> int:
    """Number of a port that the pods' containers name.

    Raises:
        HiveError: none of them does.
    """
    for pod in pods:
        for container in pod["spec"]["containers"]:
            for one in container.get("ports", []):
                if one.get("name") == name:
                    return int(one["containerPort"])
    raise HiveError(f"no pod has a port {name}", "look at them: kubectl get pods")


def _wait_for(local: int) -> None:
    """Until something listens there."""
    deadline = time.monotonic() + OPEN_SECONDS
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", local)) == 0:
                return
        if time.monotonic() > deadline:
            raise HiveError(f"the port-forward on {local} does not open", "try again")
        time.sleep(0.05)


class Refused(HiveError):
    """The API server's no, with its HTTP status."""

    def __init__(self, what: str, status: int) -> None:
        super().__init__(f"the cluster's API server refuses: {what}", "see the message: it names what is missing")
        self.status = status


@contextlib.contextmanager
def _asking() -> Iterator[None]:
    """What goes wrong with the API server, said once."""
    try:
        yield
    except kr8s.NotFoundError as error:
        raise Refused(str(error), 404) from error
    except kr8s.ServerError as error:
        raise Refused(str(error), 500 if error.response is None else error.response.status_code) from error
    except (kr8s.APITimeoutError, kr8s.ConnectionClosedError, httpx.HTTPError, OSError) as error:
        raise HiveError(
            f"the cluster's API server does not answer ({error!r})", "kubectl cluster-info; or name another --context"
        ) from error
    except ValueError as error:  # kr8s, of a kubeconfig
        raise HiveError(f"no cluster can be reached: {error}", "set KUBECONFIG, or --context") from error
