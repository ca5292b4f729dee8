"""Entrypoint of a Ray worker with GPUs: asks the agent how many bytes its devices have and starts Ray with that figure.

So nobody writes a GPU's size into values.yaml, and mixed GPUs fit in one worker group. KubeRay hands over Ray's start
command in KUBERAY_GEN_RAY_START_CMD (annotation ray.io/overwrite-container-cmd); the local driver does the same.
"""

import asyncio
import json
import os
import resource
import shlex
import sys

from serve_app.lease import AgentClient, LeaseError
from serve_app.settings import Settings, from_environment
from vram_agent.api import MIB, Device, State

# Host CPUs for replicas. Ray's own CPU is what every task takes that says nothing, and none may come here (the chart
# gives such workers 0): beside models there is no memory for it.
CPU_RESOURCE = "model_cpus"
OPEN_FILES = 65536  # Ray's own advice; KubeRay sets it only where it writes the container's command


def resource_name(devices: int) -> str:
    """The Ray resource that counts MiB on workers with so many devices."""
    return "vram_mib" if devices == 1 else f"vram_mib_x{devices}"


def capacity(devices: list[Device], cpus: int | None) -> dict[str, int]:
    """The Ray resources of a worker: MiB that leases can have on each of its devices (the smallest counts), and CPUs.

    Args:
        cpus: None takes all of this machine.
    """
    mib = max(0, min(device.allocatable for device in devices) // MIB)
    return {resource_name(len(devices)): mib, CPU_RESOURCE: cpus or os.cpu_count() or 1}


def own_devices(settings: Settings, state: State, visible: list[str]) -> list[Device]:
    """The devices of this worker: those that it was given, else the GPUs that its container sees, else all.

    Raises:
        LeaseError: the agent does not know a device of this worker.
    """
    known = {device.id: device for device in state.devices}
    wanted = settings.devices or tuple(visible) or tuple(known)
    missing = [device for device in wanted if device not in known]
    if missing or not wanted:
        raise LeaseError(f"the VRAM agent of this node does not know {missing or 'any device'}; it has {list(known)}")
    return [known[device] for device in wanted]


def visible_gpus() -> list[str]:
    """UUIDs of the GPUs that this container sees; none without a driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return [pynvml.nvmlDeviceGetUUID(handle) for handle in handles]
    except pynvml.NVMLError:
        return []


async def ask_agent(settings: Settings) -> State:
    """The agent's state.

    Raises:
        LeaseError: no agent answers.
    """
    async with AgentClient(settings.agent_socket) as agent:
        return await agent.state()


def main() -> None:
    """Become `ray start`."""
    settings = from_environment()
    try:
        devices = own_devices(settings, asyncio.run(ask_agent(settings)), visible_gpus())
    except LeaseError as error:
        sys.exit(f"ERROR: {error}")
    os.environ["HIVE_DEVICES"] = ",".join(device.id for device in devices)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    resources = shlex.quote(json.dumps(capacity(devices, settings.cpus)))
    print(f"devices {os.environ['HIVE_DEVICES']}: {resources}", flush=True)
    # A shell expands the variables in the operator's command; `exec` lets SIGTERM reach Ray and not the shell.
    os.execvp("bash", ["bash", "-c", f"exec {os.environ['KUBERAY_GEN_RAY_START_CMD']} --resources={resources}"])


if __name__ == "__main__":
    main()
