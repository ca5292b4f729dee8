"""The few calls of the Kubernetes API that the hooks make, with the pod's own service account."""

import os
from pathlib import Path
from typing import Any

import httpx

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
Json = dict[str, Any]


class Kubernetes:
    """One namespace, seen with the rights of the service account.

    Raises:
        httpx.HTTPStatusError: from each call, where the API refuses.
    """

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    @classmethod
    def inside(cls) -> "Kubernetes":
        """From within a pod."""
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        return cls(
            httpx.Client(
                base_url=f"https://{f'[{host}]' if ':' in host else host}:{port}",
                headers={"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}"},
                verify=str(ACCOUNT / "ca.crt"),
                timeout=30,
            )
        )

    def service(self, namespace: str, name: str) -> Json:
        """The RayService."""
        return self._get(f"/apis/ray.io/v1/namespaces/{namespace}/rayservices/{name}")

    def cluster(self, namespace: str, name: str) -> Json:
        """A RayCluster."""
        return self._get(f"/apis/ray.io/v1/namespaces/{namespace}/rayclusters/{name}")

    def pods(self, namespace: str, labels: str) -> list[Json]:
        """Pods with these labels, like `app=x,tier=y`."""
        found: list[Json] = self._get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=labels)["items"]
        return found

    def patch_cluster(self, namespace: str, name: str, patch: list[Json]) -> None:
        """Apply a JSON patch to a RayCluster."""
        self._http.patch(
            f"/apis/ray.io/v1/namespaces/{namespace}/rayclusters/{name}",
            json=patch,
            headers={"Content-Type": "application/json-patch+json"},
        ).raise_for_status()

    def delete_cluster(self, namespace: str, name: str) -> None:
        """Delete a RayCluster; KubeRay makes the next one from the RayService."""
        self._http.delete(f"/apis/ray.io/v1/namespaces/{namespace}/rayclusters/{name}").raise_for_status()

    def _get(self, path: str, **query: str) -> Json:
        answer = self._http.get(path, params=query)
        answer.raise_for_status()
        found: Json = answer.json()
        return found
