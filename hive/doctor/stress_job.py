"""A Ray job, and the one file here that imports Ray: it is sent to the cluster as text and never imported by Hive.

Every node with CPUs, for jobs or for replicas, hashes for a moment on all of them. It prints a line of JSON for each.
"""

import concurrent.futures
import hashlib
import json
import time
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

SECONDS = 2.0
BLOCK = bytes(1 << 20)
DIGEST = hashlib.sha256(BLOCK).hexdigest()
CPUS = ("CPU", "model_cpus")  # Ray's own, and those of replicas, as serve_app/worker.py names them
WAIT_SECONDS = 90  # a node that does not start a task until then is not well


def hashed(until: float) -> int:
    """MiB hashed; -1 when the CPU reckoned wrong."""
    count = 0
    while time.monotonic() < until:
        if hashlib.sha256(BLOCK).hexdigest() != DIGEST:
            return -1
        count += 1
    return count


@ray.remote(num_cpus=0, max_retries=0)  # type: ignore[untyped-decorator]
def stress(cpus: int) -> dict[str, Any]:
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(cpus) as pool:  # hashing lets other threads run
        counts = list(pool.map(hashed, [began + SECONDS] * cpus))
    return {"ok": min(counts) > 0, "cpus": cpus, "mib": sum(counts), "seconds": time.monotonic() - began}


ray.init(log_to_driver=False, logging_level="ERROR")
tasks = {
    node["NodeID"]: stress.options(
        scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    ).remote(max(1, int(cpus)))
    for node in ray.nodes()
    if node["Alive"] and (cpus := sum(node["Resources"].get(kind, 0) for kind in CPUS))
}
_, late = ray.wait(list(tasks.values()), num_returns=len(tasks), timeout=WAIT_SECONDS) if tasks else ([], [])
for node, task in tasks.items():
    try:
        found = {"ok": False, "error": f"not done in {WAIT_SECONDS} s"} if task in late else ray.get(task)
    except Exception as error:  # whatever a node that dies brings
        found = {"ok": False, "error": repr(error)[:500]}
    print(json.dumps({"node": node, **found}), flush=True)
