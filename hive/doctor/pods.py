"""Pods that do not run, with the reason that Kubernetes gives."""

from collections.abc import Iterator, Sequence
from typing import Any

from hive.cluster.objects import waiting
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
        meta, status = pod["metadata"], pod.get("status", {})
        reasons = waiting([pod])
        if status.get("phase") == "Failed":
            reasons.append(f"{meta['name']}: {status.get('reason', 'failed')} {status.get('message', '')}".strip())
        for reason in reasons:
            known = next((fix for words, fix in MENDS.items() if words in reason), None)
            yield failed(f"pod {reason}", known or f"kubectl -n {meta['namespace']} describe pod {meta['name']}")
        restarts = sum(one.get("restartCount", 0) for one in status.get("containerStatuses", []))
        if restarts >= MANY_RESTARTS:
            fix = f"kubectl -n {meta['namespace']} logs --previous {meta['name']}"
            yield warning(f"pod {meta['name']} was restarted {restarts} times", fix)
        troubled += bool(reasons) or restarts >= MANY_RESTARTS
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
