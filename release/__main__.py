"""`python -m release`: after an upgrade. Does what KubeRay leaves undone, and says what stays so.

Settings: HIVE_NAMESPACE, HIVE_RAYSERVICE, HIVE_ROLLOUT (Announce or Recreate).
"""

import os
import sys

import httpx

from release.changes import listed, outdated, running, templates, told, worker_groups
from release.kubernetes import Kubernetes


def after_upgrade(kubernetes: Kubernetes, namespace: str, name: str, rollout: str) -> list[str]:
    """Give the running cluster the workers that are asked for, and end it where its pods are to be made anew.

    Returns:
        What was done, a line each.
    """
    service = kubernetes.service(namespace, name)
    cluster = running(service)
    if cluster is None:
        return ["no cluster runs yet: the next one is made as asked for"]
    pods = kubernetes.pods(namespace, f"ray.io/cluster={cluster}")
    old = outdated(pods, templates(service))
    if old and rollout == "Recreate":
        kubernetes.delete_cluster(namespace, cluster)
        return [
            f"pods made from another template: {listed(old)}",
            f"{cluster} is ended; KubeRay makes the next as asked for",
        ]
    done = []
    if patch := worker_groups(kubernetes.cluster(namespace, cluster), service):
        kubernetes.patch_cluster(namespace, cluster, patch)
        done.append(f"workers of {cluster}: {told(patch)}")
    if old:
        done.append(f"WARNING: these pods run an older template: {listed(old)}")
        done.append("FIX: helm upgrade --set rollout.podTemplate=Recreate, which ends all models and starts them anew")
    return done or ["nothing to do"]


def main() -> None:
    try:
        lines = after_upgrade(
            Kubernetes.inside(), os.environ["HIVE_NAMESPACE"], os.environ["HIVE_RAYSERVICE"], os.environ["HIVE_ROLLOUT"]
        )
    except httpx.HTTPError as error:
        sys.exit(f"ERROR: {error}")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
