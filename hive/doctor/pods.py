"""Pods that do not run, with the reason that Kubernetes gives."""

from collections.abc import Iterator, Sequence
from typing import Any

from hive.doctor.finding import Finding, failed, ok, warning

Json = dict[str, Any]
MENDS = {  # the first that is found; OOMKilled explains a CrashLoopBackOff
    "OOMKilled": "raise its memory limit in the values",
    "ImagePullBackOff": "see that the image exists and imagePullSecrets name a Secret that may pull it",
    "ErrImagePull": "see that the image exists and imagePullSecrets name a Secret that may pull it",
    "CreateContainerConfigError": "make the Secret or ConfigMap that it names",
    "CrashLoopBackOff": "see its last words: kubectl logs --previous",
    "Insufficient nvidia.com/gpu": "lower workerGroups.*.replicas, or add a GPU",
    "untolerated taint": "add it to tolerations",
    "didn't match Pod's node affinity/selector": "see nodeSelector and affinity in the values",
}
MANY_RESTARTS = 5


def running(pods: Sequence[Json]) -> Iterator[Finding]:
    """Every pod is placed and every container runs."""
    troubled = 0
    for pod in pods:
        name = pod["metadata"]["name"]
        for reason, message in _reasons(pod):
            troubled += 1
            text = f"{reason}: {message}" if message else reason
            yield failed(f"pod {name}: {text}", _mend(text, pod))
        restarts = sum(one.get("restartCount", 0) for one in _containers(pod))
        if restarts >= MANY_RESTARTS:
            troubled += 1
            fix = f"kubectl -n {pod['metadata']['namespace']} logs --previous {name}"
            yield warning(f"pod {name} was restarted {restarts} times", fix)
    if pods and not troubled:
        yield ok(f"{len(pods)} pods run")


def refused(events: Sequence[Json]) -> Iterator[Finding]:
    """Pods that could not even be made: quota, admission, Pod Security."""
    latest = {(one["involvedObject"]["kind"], one["involvedObject"]["name"]): one for one in events}
    for (kind, name), event in latest.items():
        fix = "see the message; Kubernetes tries again by itself"
        if "violates PodSecurity" in event["message"]:
            fix = "label the namespace pod-security.kubernetes.io/enforce=privileged"
        elif "exceeded quota" in event["message"]:
            fix = "raise the namespace's ResourceQuota, or lower requests in the values"
        # Events outlive what they tell of, by an hour.
        when = event.get("lastTimestamp") or event.get("eventTime") or "lately"
        yield warning(f"{kind} {name} could not make a pod ({when}): {event['message']}", fix)


def _reasons(pod: Json) -> Iterator[tuple[str, str]]:
    status = pod.get("status", {})
    if status.get("phase") == "Pending":
        for one in status.get("conditions", []):
            if one["type"] == "PodScheduled" and one["status"] == "False":
                yield "is not placed", one.get("message", one.get("reason", ""))
    if status.get("phase") == "Failed":
        yield status.get("reason", "failed"), status.get("message", "")
    for container in _containers(pod):
        waiting = container.get("state", {}).get("waiting", {})
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            ended = container.get("lastState", {}).get("terminated", {})
            why = waiting.get("message", "")
            yield f"{container['name']} {waiting['reason']}", f"{ended['reason']}; {why}" if "reason" in ended else why


def _containers(pod: Json) -> list[Json]:
    status = pod.get("status", {})
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def _mend(text: str, pod: Json) -> str:
    known = next((fix for words, fix in MENDS.items() if words in text), None)
    return known or f"kubectl -n {pod['metadata']['namespace']} describe pod {pod['metadata']['name']}"
