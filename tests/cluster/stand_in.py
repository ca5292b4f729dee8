"""Stands in for KubeRay's operator where there is none: what KubeRay documents of RayServices and the chart needs.

    python -m tests.cluster.stand_in API TOKEN

From a RayService a RayCluster, and from that a head Service, a head pod and worker pods, with the labels, environment,
probes and ports that KubeRay 1.7 gives them. `serveConfigV2` is brought to Ray's dashboard when it changed, or when
Serve has lost it; a status tells of the applications. As in KubeRay under `upgradeStrategy: None`, a cluster that runs
keeps its pod templates and worker counts whatever the RayService says. Of the rest, nothing: no new cluster beside an
old one, no autoscaler, no TLS, no webhooks.
"""

import copy
import logging
import random
import string
import sys
import time
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import httpx
import yaml

Json = dict[str, Any]
log = logging.getLogger("stand-in")
ROUND_SECONDS = 1.0
GROUP = "/apis/ray.io/v1"
DASHBOARD_AGENT, METRICS = 52365, 8080
HEAD = "headgroup"


class Cluster:
    """The API server.

    Raises:
        httpx.HTTPStatusError: from each call that the API refuses.
    """

    def __init__(self, api: str, token: str) -> None:
        self._http = httpx.Client(base_url=api, headers={"Authorization": f"Bearer {token}"}, verify=False, timeout=30)

    def get(self, path: str) -> Json | None:
        """The object, or None where there is none."""
        answer = self._http.get(path)
        if answer.status_code == 404:
            return None
        found: Json = answer.raise_for_status().json()
        return found

    def items(self, path: str) -> list[Json]:
        found = self.get(path)
        return found["items"] if found else []

    def create(self, path: str, document: Json) -> None:
        log.info("create %s %s", document["kind"], document["metadata"])
        self._http.post(path, json=document).raise_for_status()

    def delete(self, path: str) -> None:
        log.info("delete %s", path)
        self._http.delete(path).raise_for_status()

    def merge(self, path: str, change: Json) -> None:
        headers = {"Content-Type": "application/merge-patch+json"}
        self._http.patch(path, json=change, headers=headers).raise_for_status()


# -- objects, as functions of data -----------------------------------------------------------------------------------


def owner(of: Json) -> list[Json]:
    meta = of["metadata"]
    it = {"apiVersion": of["apiVersion"], "kind": of["kind"], "name": meta["name"], "uid": meta["uid"]}
    return [it | {"controller": True, "blockOwnerDeletion": True}]


def ray_cluster(service: Json, name: str) -> Json:
    labels = {"ray.io/originated-from-cr-name": service["metadata"]["name"], "ray.io/originated-from-crd": "RayService"}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": name, "labels": labels, "ownerReferences": owner(service)},
        "spec": service["spec"]["rayClusterConfig"],
    }


def head_service(of: Json, cluster: Json) -> Json:
    """For a RayCluster, or for the RayService whose cluster it is."""
    ports = cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["ports"]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"{of['metadata']['name']}-head-svc", "ownerReferences": owner(of)},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"ray.io/cluster": cluster["metadata"]["name"], "ray.io/node-type": "head"},
            "ports": [{"name": port["name"], "port": port["containerPort"]} for port in ports],
        },
    }


def start_command(params: Json, container: Json, *, head: bool) -> str:
    """`ray start` with the parameters of the group and the container's resources."""
    resources = container.get("resources", {})
    requests, limits = resources.get("requests", {}), resources.get("limits", {})
    known = dict(params) | {"block": "true", "dashboard-agent-listen-port": str(DASHBOARD_AGENT)}
    known.setdefault("metrics-export-port", str(METRICS))
    if cpu := limits.get("cpu", requests.get("cpu")):
        known.setdefault("num-cpus", str(whole_cpus(str(cpu))))
    if memory := limits.get("memory"):
        known.setdefault("memory", str(size(str(memory))))
    flags = (f"--{name}" if value == "true" else f"--{name}={value}" for name, value in sorted(known.items()))
    return " ".join(["ray start", *["--head"] * head, *flags])


def whole_cpus(quantity: str) -> int:
    """Rounded up, as Kubernetes' own `Value()` does."""
    return -(-int(quantity[:-1]) // 1000) if quantity.endswith("m") else int(quantity)


def size(quantity: str) -> int:
    units = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
    return int(quantity[:-2]) * units[quantity[-2:]] if quantity[-2:] in units else int(quantity)


def field(path: str) -> Json:
    return {"valueFrom": {"fieldRef": {"fieldPath": path}}}


def environment(cluster: Json, command: str, *, head: bool) -> list[Json]:
    spec = cluster["spec"]
    port = spec["headGroupSpec"]["rayStartParams"].get("port", "6379")
    name, namespace = cluster["metadata"]["name"], cluster["metadata"]["namespace"]
    address = "127.0.0.1" if head else f"{name}-head-svc.{namespace}.svc.cluster.local"
    env = {
        "RAY_CLUSTER_NAME": field("metadata.labels['ray.io/cluster']"),
        "RAY_CLUSTER_NAMESPACE": field("metadata.namespace"),
        "RAY_CLOUD_INSTANCE_ID": field("metadata.name"),
        "RAY_NODE_TYPE_NAME": field("metadata.labels['ray.io/group']"),
        "KUBERAY_GEN_RAY_START_CMD": {"value": command},
        "RAY_PORT": {"value": port},
        "RAY_ADDRESS": {"value": f"{address}:{port}"},
        "RAY_timeout_ms_task_wait_for_death_info": {"value": "0"},
        "RAY_gcs_server_request_timeout_seconds": {"value": "5"},
        "RAY_SERVE_KV_TIMEOUT_S": {"value": "5"},
    }
    if not head:
        env["FQ_RAY_IP"] = {"value": address}
    if spec.get("authOptions", {}).get("mode") == "token":
        key = {"name": spec["authOptions"]["secretName"], "key": "auth_token"}
        env["RAY_AUTH_MODE"] = {"value": "token"}
        env["RAY_AUTH_TOKEN"] = {"valueFrom": {"secretKeyRef": key}}
    if redis := spec.get("gcsFaultToleranceOptions"):
        if head:
            env["RAY_REDIS_ADDRESS"] = {"value": redis["redisAddress"]}
            env["RAY_external_storage_namespace"] = {"value": cluster["metadata"]["uid"]}
            if "redisPassword" in redis:
                env["REDIS_PASSWORD"] = redis["redisPassword"]
        else:
            env["RAY_gcs_rpc_server_reconnect_timeout_s"] = {"value": "600"}
    return [{"name": name} | value for name, value in env.items()]


def pod(cluster: Json, group: Json, *, head: bool) -> Json:
    """One pod of a group."""
    name = HEAD if head else group["groupName"]
    template = copy.deepcopy(group["template"])
    meta, spec = template["metadata"], template["spec"]
    container = spec["containers"][0]
    params = dict(group["rayStartParams"])
    if cpus := group.get("resources", {}).get("CPU"):
        params["num-cpus"] = cpus
    address = f"{cluster['metadata']['name']}-head-svc.{cluster['metadata']['namespace']}.svc.cluster.local"
    port = cluster["spec"]["headGroupSpec"]["rayStartParams"].get("port", "6379")
    if not head:
        params["address"] = f"{address}:{port}"
    elif "redisPassword" in cluster["spec"].get("gcsFaultToleranceOptions", {}):
        params["redis-password"] = "$REDIS_PASSWORD"
    command = start_command(params, container, head=head)
    own = environment(cluster, command, head=head)
    container["env"] = container.get("env", []) + own
    container["ports"] = [*container.get("ports", []), {"name": "metrics", "containerPort": METRICS}]
    if meta.get("annotations", {}).get("ray.io/overwrite-container-cmd") != "true":
        container["command"] = ["/bin/bash", "-c", "--"]
        container["args"] = [f"ulimit -n 65536; {command}"]
    if all(mount["mountPath"] != "/dev/shm" for mount in container["volumeMounts"]):
        requests = container["resources"].get("requests", {})
        limit = requests.get("memory", container["resources"]["limits"]["memory"])
        spec["volumes"].append({"name": "shared-mem", "emptyDir": {"medium": "Memory", "sizeLimit": limit}})
        container["volumeMounts"].append({"name": "shared-mem", "mountPath": "/dev/shm"})
    healthy = {"httpGet": {"path": "/api/healthz", "port": DASHBOARD_AGENT}}
    probe = {"timeoutSeconds": 5, "periodSeconds": 5}
    container.setdefault("livenessProbe", healthy | probe | {"initialDelaySeconds": 30, "failureThreshold": 120})
    serving = f"wget --tries 1 -T 10 -q -O- http://localhost:{DASHBOARD_AGENT}/api/local_raylet_healthz | grep success"
    serving += " && wget --tries 1 -T 10 -q -O- http://localhost:8000/-/healthz | grep success"
    ready = healthy if head else {"exec": {"command": ["bash", "-c", serving]}}
    container.setdefault("readinessProbe", ready | probe | {"initialDelaySeconds": 10})
    if not head:
        spec.setdefault("initContainers", []).append(wait_for_head(container, own, f"{address}:{port}"))
    meta["labels"] = {
        "app.kubernetes.io/name": "kuberay",
        "app.kubernetes.io/created-by": "kuberay-operator",
        "ray.io/is-ray-node": "yes",
        "ray.io/serve": "false" if head else "true",
    } | meta["labels"]
    kind = "head" if head else "worker"
    meta["labels"] |= {
        "ray.io/cluster": cluster["metadata"]["name"],
        "ray.io/node-type": kind,
        "ray.io/group": name,
    }
    base = cluster["metadata"]["name"]
    meta |= {"name": f"{base}-head"} if head else {"generateName": f"{base}-{name}-worker-"}
    meta["ownerReferences"] = owner(cluster)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def wait_for_head(container: Json, env: list[Json], address: str) -> Json:
    wait = f"until ray health-check --address {address} > /dev/null 2>&1; do sleep 5; done"
    small = {"cpu": "200m", "memory": "256Mi"}
    return {
        **{key: container[key] for key in ("image", "imagePullPolicy", "securityContext", "volumeMounts")},
        "name": "wait-gcs-ready",
        "command": ["/bin/bash", "-c", "--", wait],
        "env": [*container["env"], *env],
        "resources": {"requests": small, "limits": small},
    }


def state(of: Json) -> Json:
    """Of an application or a deployment, as a RayService has it."""
    return {"status": of["status"], "message": of["message"]}


def deployments(application: Json) -> Json:
    return {name: state(it) for name, it in application["deployments"].items()}


def gone(found: Json) -> bool:
    return "deletionTimestamp" in found["metadata"]


def ready(found: Json) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in found["status"].get("conditions", []))


# -- the rounds ------------------------------------------------------------------------------------------------------


class Operator:
    """Brings RayServices and RayClusters one step closer to what they ask for, again and again."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._brought: dict[str, str] = {}  # the configuration that Serve has, by RayCluster

    def round(self) -> None:
        for service in self._cluster.items(f"{GROUP}/rayservices"):
            if not gone(service):
                self._service(service)
        for cluster in self._cluster.items(f"{GROUP}/rayclusters"):
            if not gone(cluster):
                self._pods_of(cluster)

    def _service(self, service: Json) -> None:
        meta, status = service["metadata"], service.get("status", {})
        path = f"{GROUP}/namespaces/{meta['namespace']}/rayservices/{meta['name']}"
        active = status.get("activeServiceStatus", {}).get("rayClusterName", "")
        pending = status.get("pendingServiceStatus", {}).get("rayClusterName", "")
        clusters = f"{GROUP}/namespaces/{meta['namespace']}/rayclusters"
        cluster = self._cluster.get(f"{clusters}/{active or pending}") if active or pending else None
        if service["spec"].get("suspend"):
            if cluster and not gone(cluster):
                self._cluster.delete(f"{clusters}/{active or pending}")
            self._tell(path, "", "", {})
        elif cluster is None:
            name = f"{meta['name']}-{''.join(random.choices(string.ascii_lowercase, k=5))}"
            self._cluster.create(clusters, ray_cluster(service, name))
            self._tell(path, "", name, {})
        elif not gone(cluster):
            self._append_groups(service, cluster, clusters)
            states = self._serve(service, cluster)
            serves = bool(states) and all(state["status"] == "RUNNING" for state in states.values())
            if serves:
                self._service_of(service, cluster)
            active = active or (cluster["metadata"]["name"] if serves else "")
            self._tell(path, active, "" if active else pending, states)

    def _tell(self, path: str, active: str, pending: str, states: Json) -> None:
        """The status. Merged, so what is not there any more is said to be null."""
        there = (self._cluster.get(path) or {}).get("status", {}).get("activeServiceStatus", {})
        old = dict.fromkeys(there.get("applicationStatuses", {}))
        serving = {"rayClusterName": active, "applicationStatuses": old | (states if active else {})}
        coming = {"rayClusterName": pending, "applicationStatuses": {} if active else states}
        self._cluster.merge(
            f"{path}/status", {"status": {"activeServiceStatus": serving, "pendingServiceStatus": coming}}
        )

    def _append_groups(self, service: Json, cluster: Json, clusters: str) -> None:
        """New worker groups behind those that there are; nothing else of a cluster changes in place."""
        has, asked = cluster["spec"]["workerGroupSpecs"], service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
        names = [group["groupName"] for group in has]
        if len(asked) > len(has) and [group["groupName"] for group in asked[: len(has)]] == names:
            groups = has + asked[len(has) :]
            self._cluster.merge(f"{clusters}/{cluster['metadata']['name']}", {"spec": {"workerGroupSpecs": groups}})

    def _serve(self, service: Json, cluster: Json) -> Json:
        """Bring the configuration to Serve if it lacks it.

        Returns:
            The applications' states; empty while nobody answers.
        """
        name, namespace = cluster["metadata"]["name"], cluster["metadata"]["namespace"]
        head = self._cluster.get(f"/api/v1/namespaces/{namespace}/pods/{name}-head")
        if head is None or not ready(head):
            return {}
        ports = head["spec"]["containers"][0]["ports"]
        port = next(one["containerPort"] for one in ports if one["name"] == "dashboard")
        address = f"http://{head['status']['podIP']}:{port}/api/serve/applications/"
        text = service["spec"]["serveConfigV2"]
        try:
            with httpx.Client(headers=self._authorization(cluster), timeout=20) as dashboard:
                states = dashboard.get(address).raise_for_status().json()["applications"]
                if self._brought.get(name) != text or not states:
                    dashboard.put(address, json=yaml.safe_load(text)).raise_for_status()
                    self._brought[name] = text
                    log.info("configuration brought to %s", name)
        except httpx.HTTPError as error:
            log.info("the dashboard of %s: %r", name, error)
            return {}
        return {app: state(it) | {"serveDeploymentStatuses": deployments(it)} for app, it in states.items()}

    def _authorization(self, cluster: Json) -> dict[str, str]:
        auth = cluster["spec"].get("authOptions", {})
        if auth.get("mode") != "token":
            return {}
        path = f"/api/v1/namespaces/{cluster['metadata']['namespace']}/secrets/{auth['secretName']}"
        secret = self._cluster.get(path)
        return {"Authorization": f"Bearer {b64decode(secret['data']['auth_token']).decode()}"} if secret else {}

    def _service_of(self, of: Json, cluster: Json) -> None:
        """The head's Service, of a RayService or a RayCluster."""
        services = f"/api/v1/namespaces/{of['metadata']['namespace']}/services"
        wanted = head_service(of, cluster)
        path = f"{services}/{wanted['metadata']['name']}"
        found = self._cluster.get(path)
        if found is None:
            self._cluster.create(services, wanted)
        elif found["spec"]["selector"] != wanted["spec"]["selector"]:
            self._cluster.merge(path, {"spec": {"selector": wanted["spec"]["selector"]}})

    def _pods_of(self, cluster: Json) -> None:
        meta, spec = cluster["metadata"], cluster["spec"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods"
        self._service_of(cluster, cluster)
        pods = self._cluster.items(f"{path}?labelSelector=ray.io/cluster={meta['name']}")
        if not any(one["metadata"]["labels"]["ray.io/node-type"] == "head" for one in pods):
            self._cluster.create(path, pod(cluster, spec["headGroupSpec"], head=True))
        for group in spec["workerGroupSpecs"]:
            there = [one for one in pods if one["metadata"]["labels"]["ray.io/group"] == group["groupName"]]
            alive = [one for one in there if not gone(one)]
            for _ in range(group["replicas"] - len(alive)):
                self._cluster.create(path, pod(cluster, group, head=False))
            for one in alive[group["replicas"] :]:
                self._cluster.delete(f"{path}/{one['metadata']['name']}")


def rounds() -> Iterator[None]:
    while True:
        yield
        time.sleep(ROUND_SECONDS)


def main() -> None:
    api, token = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    operator = Operator(Cluster(api, token))
    for _ in rounds():
        try:
            operator.round()
        except httpx.HTTPError as error:  # a conflict, or an object that went away: the next round sees
            text = error.response.text if isinstance(error, httpx.HTTPStatusError) else ""
            log.info("this round: %r %s", error, text)


if __name__ == "__main__":
    main()
