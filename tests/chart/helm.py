"""Helm for the tests: values in, manifests out. Nothing here knows what the chart should render."""

import functools
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from hive.rendering import quiet_stderr

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "chart"
RELEASE = "hive"
NAMESPACE = "llm"
VALUES_FILES = sorted((ROOT / "values").glob("*.yaml"))

Json = dict[str, Any]


class Loader(yaml.CSafeLoader):
    """YAML as Go reads it: a lone `=` is text."""


Loader.add_constructor("tag:yaml.org,2002:value", yaml.CSafeLoader.construct_yaml_str)

# What the chart asks of everybody: API keys.
KEYS: Json = {"keysSecret": "hive-keys"}
# What a group of pods may have beside its GPUs.
MORE: Json = {
    "env": [{"name": "NCCL_DEBUG", "value": "INFO"}],
    "priorityClassName": "high",
    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{}]}}},
}
# Every feature of the chart at once.
FULL: Json = {
    "models": {
        "auto": {
            "source": "owner/auto",
            "vram": "10Gi",
            "autoscaling": {"min": 1, "max": 2, "targetOngoingRequests": 2.5},
            "memory": "6Gi",
            "chatTemplate": "{% for m in messages %}\n  {{ m.content }}\n{% endfor %}\n",
            "maxModelLen": 1048576,
            "maxNumSeqs": 256,
            "maxOngoingRequests": 512,
            "aliases": ["gpt-4o", "owner/auto"],
            "adapters": {"auto-sql": "owner/sql", "Auto:Chat": "./chat"},
            "defaults": {"maxTokens": 128, "temperature": 0, "topP": 0.9, "truncateInput": True},
            "engine": {"kv_cache_dtype": "fp8", "seed": 4294967296, "enable_prefix_caching": False},
            "env": {"VLLM_LOGGING_LEVEL": "DEBUG", "TOKENIZERS_PARALLELISM": "false"},
        },
        "quad": {"source": "/models/quad", "vram": "70Gi", "tensorParallel": 4, "cpu": 0.5},
        "several": {"source": "./several", "vram": "512Mi", "replicas": 9, "spread": False},
        "off": {"source": "owner/off", "vram": "1Gi", "replicas": 0},
    },
    "image": {"repository": "registry.local/hive", "tag": "1.2.3", "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "ray": {
        "auth": {"mode": "token", "existingSecret": "ray-token"},
        "http": {"host": "127.0.0.1", "proxyLocation": "HeadOnly"},
        "envFrom": [{"secretRef": {"name": "hub-token"}}],
        "upgradeStrategy": "NewCluster",
        "suspend": True,
        "gcsFaultTolerance": {"redisAddress": "redis:6379", "passwordSecret": "redis"},
    },
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "extraVolumes": [{"name": "ca", "secret": {"secretName": "ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ssl/certs", "readOnly": True}],
    "rollout": {"podTemplate": "Recreate"},
    "networkPolicy": {"rayFrom": [{"podSelector": {"matchLabels": {"team": "research"}}}]},
    "ports": {"gateway": 18080, "gatewayMetrics": 19411},
    "modelsVolume": {"persistentVolumeClaim": {"claimName": "models"}},
    "head": {"nodeSelector": {"pool": "cpu"}, "tolerations": [{"key": "cpu", "operator": "Exists"}]},
    "workerGroups": {
        "gpu": {"replicas": 2, "runtimeClassName": "nvidia", "nodeSelector": {"pool": "gpu"}} | MORE,
        "quad": {
            "replicas": 1,
            "gpusPerWorker": 4,
            "gpuResource": "nvidia.com/gpu",
            "resources": {"requests": {"cpu": 16, "memory": "64Gi"}, "limits": {}},
            "shmSize": "8Gi",
        },
        "ram": {
            "autoscaling": {"min": 0, "max": 3, "vram": "48Gi"},
            "gpusPerWorker": 1,
            "gpuResource": "",
            "resources": {"requests": {"cpu": 8}, "limits": {"memory": "64Gi"}},
        },
    },
    "gateway": {
        "replicas": 2,
        "host": "::",
        "keysSecret": "team-keys",
        "clients": {
            "alice": {"models": ["quad", "auto"], "requestsPerMinute": 60},
            "bob.example_2": {"requestsPerMinute": 7},
            "nothing": {"models": []},
            "true": {},
        },
        "maxBodyMib": 8,
        "idleTimeoutSeconds": 90,
        "image": {"repository": "registry.local/envoy", "tag": "1.40.0", "pullPolicy": "Always"},
        "resources": {"requests": {"cpu": 2}, "limits": {"memory": "2Gi"}},
        "priorityClassName": "high",
        "service": {
            "type": "LoadBalancer",
            "port": 8443,
            "annotations": {"lb.example/pool": "a"},
            "loadBalancerClass": "lb.example/class",
        },
        "ingress": {
            "host": "llm.example",
            "className": "nginx",
            "tlsSecret": "llm-tls",
            "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "0"},
        },
        "httpRoute": {"parentRefs": [{"name": "public", "namespace": "infra"}], "hostnames": ["llm.example"]},
        "nodeSelector": {"pool": "cpu"},
        "tolerations": [{"key": "cpu", "operator": "Exists"}],
    },
    "agent": {"deviceKind": "nvml", "runtimeClassName": "nvidia", "headroomMib": 1048576, "driverLimits": True},
}
# Nobody is asked for anything.
OPEN: Json = {
    "models": {"a": {"source": "owner/a", "vram": "1Gi"}},
    "gateway": {"anonymous": True},
    "ray": {"auth": {"mode": "disabled"}},
}


def load(path: Path = CHART) -> helm_python.Chart:
    """A chart from its folder or package."""
    with quiet_stderr():
        return helm_python.Chart.load(path)


@functools.cache
def chart() -> helm_python.Chart:
    """The chart in the working tree, read once."""
    return load()


def complete(values: Json) -> Json:
    """These values, with API keys where they say neither what keys there are nor that there are none."""
    gateway = values.get("gateway", {})
    if gateway is None or any(gateway.get(key) for key in ("keysSecret", "anonymous", "host")):
        return values
    return values | {"gateway": gateway | KEYS}


def texts(values: Json, *, of: helm_python.Chart | None = None) -> dict[str, str]:
    """The rendered text of each template of the completed values, by its path inside the chart."""
    rendered = (of or chart()).render(complete(values), name=RELEASE, namespace=NAMESPACE)
    return {path.partition("/")[2]: text for path, text in rendered.items()}


def render(values: Json, *, of: helm_python.Chart | None = None) -> list[Json]:
    """Every Kubernetes object that these values make."""
    manifests = [text for path, text in texts(values, of=of).items() if path.endswith(".yaml")]
    return [obj for text in manifests for obj in yaml.load_all(text, Loader) if obj is not None]


def find(manifests: list[Json], kind: str) -> Json:
    """The only object of this kind."""
    (found,) = [obj for obj in manifests if obj["kind"] == kind]
    return found


def ray_service(values: Json, *, of: helm_python.Chart | None = None) -> Json:
    """The RayService's spec."""
    text = texts(values, of=of)["templates/rayservice/rayservice.yaml"]
    spec: Json = yaml.load(text, Loader)["spec"]
    return spec


def serve_config(values: Json) -> Json:
    """serveConfigV2, parsed as KubeRay does it."""
    config: Json = yaml.load(ray_service(values)["serveConfigV2"], Loader)
    return config


def application(values: Json, name: str) -> Json:
    """The Serve application of one model."""
    (found,) = [app for app in serve_config(values)["applications"] if app["name"] == name]
    return dict(found)


def value_sets() -> dict[str, Json]:
    """What the chart is checked with: its defaults, every ready values file, everything at once, and no protection."""
    files = {path.stem: yaml.safe_load(path.read_text()) for path in VALUES_FILES}
    return {"default": complete({}), "full": FULL, "open": OPEN} | files


def tool(name: str) -> str:
    """The path of one of tools/bin; skips the test where it is not built."""
    path = ROOT / "tools" / "bin" / name
    if not path.exists():
        pytest.skip("Go is missing: run `make tools`")
    return str(path)
