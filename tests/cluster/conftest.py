"""One real Kubernetes with an operator and Hive's chart, for all tests of this folder."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml

from hive.rendering import ROOT
from tests import fake_nvml
from tests.chart import schemas
from tests.cluster import image
from tests.cluster.node import API, HERE, TOKEN, Node
from vram_agent.api import GIB

Json = dict[str, Any]
BINARIES = ROOT / "tools" / "bin" / "kubernetes"
CACHE = ROOT / ".hive" / "e2e"
DEBIAN = {  # program -> package
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "debootstrap": "debootstrap",
    "redis-server": "redis-server",
    "unshare": "util-linux",
    "ip": "iproute2",
    "cc": "gcc",
}
PLUGINS = Path("/usr/lib/cni/bridge")  # of the package containernetworking-plugins
LISTENS = ("metrics-addr", "health-probe-bind-address")  # of the operator
RELEASE, NAMESPACE = "hive", "llm"
# Two GPUs of the one node, and a worker group for each: with the defaults of headroom and safety, 7.25 and 3.25 GiB.
LARGE, SMALL = "GPU-large", "GPU-small"
REDIS_PORT, REDIS_PASSWORD = 6380, "e2e"
figures: list[tuple[str, float]] = []  # what took how many seconds


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
    return None


def operator() -> str | None:
    """KubeRay's, where it is on PATH."""
    return shutil.which("kuberay-operator") or shutil.which("ray-operator")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if figures:
        terminalreporter.section(f"seconds on a real Kubernetes, with {operator() or 'the stand-in for KubeRay'}")
        for what, seconds in figures:
            terminalreporter.line(f"{seconds:7.1f}  {what}")


@dataclass
class Cluster:
    """Kubernetes and what a person does with it."""

    node: Node
    folder: Path
    asked: Json = field(default_factory=dict)  # the values of the last upgrade

    def upgrade(self, models: Json, *flags: str, **more: Any) -> str:
        """Install or upgrade, and say what Helm printed."""
        self.asked = {"models": models} | more
        file = values(models, self.folder, **more)
        done = self.helm("upgrade", "--install", RELEASE, "chart", "-n", NAMESPACE, "-f", str(file), *flags)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def settle(self, seconds: float = 600) -> float:
        """Seconds until every model that was asked for has the replicas that were asked for, and answers."""
        wanted = {name: entry.get("replicas", 1) for name, entry in self.asked["models"].items()}
        began = time.monotonic()
        wait_for("the replicas", lambda: {name: len(own) for name, own in self.pids().items()} == wanted, seconds)
        for name in wanted:
            wait_for(f"{name} answers", lambda name=name: self.answers(name), 60)  # type: ignore[misc]
        return time.monotonic() - began

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

    def delete_pod(self, name: str) -> None:
        api("DELETE", f"/api/v1/namespaces/{NAMESPACE}/pods/{name}").raise_for_status()

    def revision(self) -> int:
        """Of the release."""
        done = self.helm("history", RELEASE, "-n", NAMESPACE, "--max", "1", "-o", "json")
        return int(json.loads(done.stdout)[0]["revision"])

    def service(self) -> Json:
        return self.get(f"/apis/ray.io/v1/namespaces/{NAMESPACE}/rayservices/{RELEASE}")

    def states(self) -> dict[str, str]:
        """State of each model, as the RayService tells it."""
        active = self.service().get("status", {}).get("activeServiceStatus", {})
        return {name: one["status"] for name, one in active.get("applicationStatuses", {}).items()}

    def uids(self) -> set[str]:
        """Of the Ray pods."""
        return {pod["metadata"]["uid"] for pod in self.pods("ray.io/is-ray-node=yes")}

    @property
    def gateway(self) -> str:
        found = self.get(f"/api/v1/namespaces/{NAMESPACE}/services/{RELEASE}-gateway")
        return f"http://{found['spec']['clusterIP']}"

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.gateway}/v1", api_key="none", max_retries=3, timeout=60)

    def ask(self, model: str) -> httpx.Response:
        body = {"model": model, "prompt": "hello", "max_tokens": 2}
        return httpx.post(f"{self.gateway}/v1/completions", json=body, timeout=60)

    def answers(self, model: str) -> bool:
        try:
            return self.ask(model).status_code == 200
        except httpx.HTTPError:
            return False

    def leases(self) -> list[Json]:
        """Of every agent; none while it is away."""
        found = []
        for pod in self.pods("app.kubernetes.io/component=agent"):
            try:
                state = httpx.get(f"http://{pod['status']['podIP']}:9410/v1/state", timeout=10).json()
            except (httpx.HTTPError, KeyError):
                continue
            found += state["leases"]
        return found

    def serving(self) -> list[Json]:
        return [lease for lease in self.leases() if lease["state"] == "ACTIVE"]

    def pids(self) -> dict[str, set[int]]:
        """PIDs that hold a lease that serves, by model."""
        found: dict[str, set[int]] = {}
        for lease in self.serving():
            found.setdefault(lease["model"], set()).add(lease["pid"])
        return found

    def devices(self, model: str) -> set[str]:
        """Where its replicas are."""
        return {device for lease in self.serving() if lease["model"] == model for device in lease["devices"]}

    def agents(self) -> list[str]:
        """Names of the pods."""
        return [pod["metadata"]["name"] for pod in self.pods("app.kubernetes.io/component=agent")]

    def heads(self) -> dict[str, str]:
        """Names of the head pods that are ready and not on their way out, by UID: a new one has the name of the old."""
        return {
            pod["metadata"]["uid"]: pod["metadata"]["name"]
            for pod in self.pods("ray.io/node-type=head")
            if "deletionTimestamp" not in pod["metadata"] and condition(pod, "Ready") == "True"
        }

    def worker_of(self, device: str) -> str:
        """Name of the worker pod that has the device."""
        (pod,) = self.pods(f"ray.io/node-type=worker,ray.io/group={device.removeprefix('GPU-')}")
        return str(pod["metadata"]["name"])


class Load:
    """Light and steady: one request after the other to one model, from entering to leaving.

    Args:
        retries: how often the official client tries again, as it does by itself where the gateway says so.
    """

    def __init__(self, cluster: Cluster, model: str, retries: int = 0) -> None:
        self._client = openai.OpenAI(base_url=f"{cluster.gateway}/v1", api_key="none", max_retries=retries, timeout=60)
        self._model = model
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.answered, self.failed = 0, list[str]()

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(0.2):
            try:
                self._client.completions.create(model=self._model, prompt="hello", max_tokens=8)
                self.answered += 1
            except openai.OpenAIError as error:
                self.failed.append(f"{time.strftime('%X')} {error!r}")


def condition(pod: Json, kind: str) -> str:
    found = {one["type"]: one["status"] for one in pod["status"].get("conditions", [])}
    return str(found.get(kind, "Unknown"))


def api(method: str, path: str, **more: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {TOKEN}"} | more.pop("headers", {})
    return httpx.request(method, f"{API}{path}", headers=headers, verify=False, timeout=30, **more)


def apply(document: Json, path: str) -> None:
    """Create an object as it stands."""
    answer = api("POST", path, json=document)
    assert answer.status_code in (201, 409), answer.text


def tiny(vram: str, **more: Any) -> Json:
    """An entry of `models`; the engine's arguments are those that a replica on a CPU gets by itself."""
    engine = {"enforce_eager": True, "worker_extension_cls": "serve_app.amx.WithAmx"}
    entry: Json = {"source": "./tiny", "vram": vram, "cpu": 0.1, "maxModelLen": 512, "maxNumSeqs": 4, "engine": engine}
    return entry | more


# What every test starts from, and leaves: one on the small GPU, because it fits there best, and one on the large.
LEFT, RIGHT = tiny("2560Mi"), tiny("4Gi")
BOTH = {"left": LEFT, "right": RIGHT}


def worker_group(device: str, **more: Any) -> Json:
    """Workers on one of the GPUs: no device plugin is here, so they are told which."""
    small: Json = {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "12Gi"}}
    return {
        "replicas": 1,
        "gpusPerWorker": 1,
        "gpuResource": "",
        "resources": small,
        "env": [{"name": "HIVE_DEVICES", "value": device}],
    } | more


def values(models: Json, folder: Path, **more: Any) -> Path:
    """A values file for this cluster: its image, this machine's Python, GPUs of a driver that is a fake."""
    nvml = folder / "nvml"
    paths = [*image.mounts(), nvml]
    mounts = [{"name": f"host-{n}", "mountPath": str(path), "readOnly": True} for n, path in enumerate(paths)]
    volumes = [{"name": f"host-{n}", "hostPath": {"path": str(path)}} for n, path in enumerate(paths)]
    env = {
        "TORCHDYNAMO_DISABLE": "1",  # the image has no compiler
        "VLLM_TARGET_DEVICE": "cpu",  # there is a driver, and no GPU
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # else all engines share one core
        "LD_LIBRARY_PATH": str(nvml),
        "FAKE_NVML_STATE": str(nvml / "state"),
    }
    repository, _, tag = image.NAME.partition(":")
    picture = {"repository": repository, "tag": tag, "pullPolicy": "Never"}
    small: Json = {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "4Gi"}}
    content: Json = {
        "image": picture,
        "extraEnv": [{"name": name, "value": value} for name, value in env.items()],
        "extraVolumes": volumes,
        "extraVolumeMounts": mounts,
        "modelsVolume": {"hostPath": {"path": str(folder / "models")}},
        "models": models,
        "head": {"resources": small},
        "workerGroups": {"gpu": None, "large": worker_group(LARGE), "small": worker_group(SMALL)},
        "gateway": {"anonymous": True, "image": picture, "resources": {"requests": {"cpu": "10m"}, "limits": {}}},
        "agent": {"deviceKind": "nvml", "nodeSelector": {"nvidia.com/gpu.present": None}},
    }
    path = folder / "values.yaml"
    path.write_text(yaml.safe_dump(content | more))
    return path


def wait_for(what: str, ready: Callable[[], bool], seconds: float = 300) -> float:
    """Poll until it is so; seconds until it was."""
    began = time.monotonic()
    while not ready():
        assert time.monotonic() - began < seconds, f"not in {seconds} s: {what}"
        time.sleep(0.5)
    return time.monotonic() - began


def measured(what: str, seconds: float) -> None:
    """A figure for the summary."""
    figures.append((what, seconds))


def start_operator(node: Node, folder: Path) -> subprocess.Popen[bytes]:
    """KubeRay's where it is on PATH, else the stand-in."""
    real = operator()
    # Its own DNS knows no cluster.local, so it asks through the API server.
    command = [real, "--enable-leader-election=false", "--use-kubernetes-proxy"] if real else []
    command += [f"--{one}=127.0.0.1:0" for one in LISTENS] if real else []
    with (folder / "operator.log").open("w") as log:
        return subprocess.Popen(
            command or [sys.executable, "-m", "tests.cluster.stand_in", API, TOKEN],
            env=os.environ | {"KUBECONFIG": str(node.kubeconfig)},
            stdout=log,
            stderr=log,
        )


def start_redis(folder: Path) -> subprocess.Popen[bytes]:
    """Where pods reach it."""
    with (folder / "redis.log").open("w") as log:
        options = f"--bind {HERE} --port {REDIS_PORT} --requirepass {REDIS_PASSWORD} --save".split()
        return subprocess.Popen(["redis-server", *options, ""], cwd=folder, stdout=log, stderr=log)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Kubernetes with KubeRay's CRDs and an operator; gone afterwards, with all that it had."""
    if reason := missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("cluster")
    folder.chmod(0o755)
    shutil.copytree(ROOT / ".hive" / "models" / "tiny", folder / "models" / "tiny")
    (folder / "nvml").mkdir()
    gpus = fake_nvml.FakeNvml(fake_nvml.build(folder / "nvml"), folder / "nvml" / "state")
    gpus.write(fake_nvml.Gpu(LARGE, 8 * GIB), fake_nvml.Gpu(SMALL, 4 * GIB))
    subprocess.run(["chmod", "-R", "a+rX", folder / "models", folder / "nvml"], check=True)  # pods are not root
    node = Node(folder / "node", BINARIES, [image.build(CACHE / "image")])
    started: list[subprocess.Popen[bytes]] = []
    try:
        crds = schemas.crd_folder()
        assert crds is not None
        for file in sorted(crds.glob("ray.io_*.yaml")):
            apply(yaml.safe_load(file.read_text()), "/apis/apiextensions.k8s.io/v1/customresourcedefinitions")
        wait_for("the CRDs", lambda: api("GET", "/apis/ray.io/v1/rayservices").is_success, 60)
        apply({"metadata": {"name": NAMESPACE}}, "/api/v1/namespaces")
        secret = {"metadata": {"name": "redis"}, "stringData": {"password": REDIS_PASSWORD}}
        apply(secret, f"/api/v1/namespaces/{NAMESPACE}/secrets")
        started = [start_operator(node, folder), start_redis(folder)]
        yield Cluster(node, folder)
    finally:
        for one in started:
            one.kill()
            one.wait()
        node.stop()
    assert node.leftovers() == []


@pytest.fixture
def both(cluster: Cluster) -> Iterator[None]:
    """Both models serve, before and after."""
    if cluster.asked.get("models") != BOTH:
        cluster.upgrade(BOTH)
    cluster.settle()
    yield
    wait_for("every lease is one that serves", lambda: len(cluster.leases()) == len(cluster.serving()) == len(BOTH))
