"""One real Kubernetes with the KubeRay operator and Hive's chart, for all tests of this folder."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml

from hive.rendering import ROOT
from tests.chart import schemas
from tests.cluster import image
from tests.cluster.node import API, TOKEN, Node

Json = dict[str, Any]
BINARIES = ROOT / "tools" / "bin" / "kubernetes"
CACHE = ROOT / ".hive" / "e2e"
DEBIAN = {  # program -> package
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "debootstrap": "debootstrap",
    "unshare": "util-linux",
    "ip": "iproute2",
}
PLUGINS = Path("/usr/lib/cni/bridge")  # of the package containernetworking-plugins
LISTENS = ("metrics-addr", "health-probe-bind-address")  # of the operator
RELEASE, NAMESPACE = "hive", "llm"


def missing() -> str | None:
    """What keeps a cluster from being started here, with its mend; None: nothing."""
    if os.geteuid() != 0:
        return "the cluster needs root"
    packages = [package for program, package in DEBIAN.items() if shutil.which(program) is None]
    packages += [] if PLUGINS.exists() else ["containernetworking-plugins"]
    if packages:
        return f"apt-get install {' '.join(packages)}"
    if not (BINARIES / "kubelet").exists():
        return f"no Kubernetes in {BINARIES}: make e2e builds it, where there is Go"
    if schemas.crd_folder() is None:
        return "KubeRay's CRDs are not here: set KUBERAY_CRDS to the folder with ray.io_rayservices.yaml"
    if operator() is None:
        return "no KubeRay operator on PATH (kuberay-operator or ray-operator)"
    return None


def operator() -> str | None:
    return shutil.which("kuberay-operator") or shutil.which("ray-operator")


@dataclass
class Cluster:
    """Kubernetes and what a person does with it."""

    node: Node
    folder: Path

    def helm(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / "tools" / "bin" / "helm"), "--kubeconfig", str(self.node.kubeconfig), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)

    def get(self, path: str) -> Json:
        answer = api("GET", path)
        answer.raise_for_status()
        found: Json = answer.json()
        return found

    def pods(self, labels: str) -> list[Json]:
        found: list[Json] = self.get(f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector={labels}")["items"]
        return found

    def log(self, pod: str, container: str) -> str:
        return api("GET", f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/log?container={container}").text

    def delete_pod(self, name: str) -> None:
        api("DELETE", f"/api/v1/namespaces/{NAMESPACE}/pods/{name}").raise_for_status()

    @property
    def service(self) -> Json:
        return self.get(f"/apis/ray.io/v1/namespaces/{NAMESPACE}/rayservices/{RELEASE}")

    def states(self) -> dict[str, str]:
        """State of each model, as KubeRay has it from Serve."""
        active = self.service.get("status", {}).get("activeServiceStatus", {})
        return {name: one["status"] for name, one in active.get("applicationStatuses", {}).items()}

    @property
    def gateway(self) -> str:
        found = self.get(f"/api/v1/namespaces/{NAMESPACE}/services/{RELEASE}-gateway")
        return f"http://{found['spec']['clusterIP']}"

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.gateway}/v1", api_key="none", max_retries=3, timeout=60)

    def leases(self) -> list[Json]:
        """Of every agent."""
        found = []
        for pod in self.pods("app.kubernetes.io/component=agent"):
            state = httpx.get(f"http://{pod['status']['podIP']}:9410/v1/state", timeout=10).json()
            found += state["leases"]
        return found

    def pids(self) -> dict[str, set[int]]:
        """PIDs that hold a lease that serves, by model."""
        found: dict[str, set[int]] = {}
        for lease in self.leases():
            if lease["state"] == "ACTIVE":
                found.setdefault(lease["model"], set()).add(lease["pid"])
        return found


def api(method: str, path: str, **more: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {TOKEN}"} | more.pop("headers", {})
    return httpx.request(method, f"{API}{path}", headers=headers, verify=False, timeout=30, **more)


def apply(document: Json, path: str) -> None:
    """Create an object as it stands."""
    answer = api("POST", path, json=document)
    assert answer.status_code in (201, 409), answer.text


def values(models: Json, folder: Path, **more: Any) -> Path:
    """A values file for this cluster: its image, this machine's Python, RAM as the device."""
    mounts = [{"name": f"host-{n}", "mountPath": str(path), "readOnly": True} for n, path in enumerate(image.mounts())]
    volumes = [{"name": f"host-{n}", "hostPath": {"path": str(path)}} for n, path in enumerate(image.mounts())]
    repository, _, tag = image.NAME.partition(":")
    picture = {"repository": repository, "tag": tag, "pullPolicy": "Never"}
    small: Json = {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "12Gi"}}
    content: Json = {
        "image": picture,
        "extraEnv": [{"name": "TORCHDYNAMO_DISABLE", "value": "1"}],  # the image has no compiler
        "extraVolumes": volumes,
        "extraVolumeMounts": mounts,
        "modelsVolume": {"hostPath": {"path": str(folder / "models")}},
        "models": models,
        "head": {"resources": small},
        "workerGroups": {"gpu": {"gpuResource": "", "resources": small}},
        "gateway": {"anonymous": True, "image": picture, "resources": {"requests": {"cpu": "10m"}, "limits": {}}},
        "agent": {"deviceKind": "host", "nodeSelector": {"nvidia.com/gpu.present": None}},
    } | more
    path = folder / "values.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def wait_for(what: str, ready: Callable[[], bool], seconds: float = 300) -> float:
    """Seconds until it was so."""
    began = time.monotonic()
    while not ready():
        assert time.monotonic() - began < seconds, f"not in {seconds} s: {what}"
        time.sleep(0.5)
    return time.monotonic() - began


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Kubernetes with KubeRay's CRDs and operator; gone afterwards, with all that it had."""
    if reason := missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("cluster")
    folder.chmod(0o755)
    shutil.copytree(ROOT / ".hive" / "models" / "tiny", folder / "models" / "tiny")
    subprocess.run(["chmod", "-R", "a+rX", folder / "models"], check=True)  # the pods' user is not root
    node = Node(folder / "node", BINARIES, [image.build(CACHE / "image")])
    started: subprocess.Popen[bytes] | None = None
    try:
        crds = schemas.crd_folder()
        assert crds is not None
        for file in sorted(crds.glob("ray.io_*.yaml")):
            apply(yaml.safe_load(file.read_text()), "/apis/apiextensions.k8s.io/v1/customresourcedefinitions")
        wait_for("the CRDs", lambda: api("GET", "/apis/ray.io/v1/rayservices").is_success, 60)
        apply({"metadata": {"name": NAMESPACE}}, "/api/v1/namespaces")
        name = operator()
        assert name is not None
        with (folder / "operator.log").open("w") as log:
            started = subprocess.Popen(
                # Its own DNS knows no cluster.local, so it asks through the API server.
                [
                    name,
                    "--enable-leader-election=false",
                    "--use-kubernetes-proxy",
                    *(f"--{one}=127.0.0.1:0" for one in LISTENS),
                ],
                env=os.environ | {"KUBECONFIG": str(node.kubeconfig)},
                stdout=log,
                stderr=log,
            )
        yield Cluster(node, folder)
    finally:
        if started is not None:
            started.kill()
            started.wait()
        node.stop()
