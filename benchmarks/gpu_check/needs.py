"""What must be here before anything can be checked. Each thing that is not is one line with its mend."""

import importlib.util
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from benchmarks.gpu_check.nvml import Gpu

PACKAGES = {  # module -> name to install
    "torch": "torch",
    "pynvml": "nvidia-ml-py",
    "aiohttp": "aiohttp",
    "pydantic": "pydantic",
    "prometheus_client": "prometheus-client",
}
# In a process of its own: this one must not have a CUDA context.
PROBE = """
import json, torch
print(json.dumps({"torch": torch.__version__, "cuda": torch.version.cuda, "available": torch.cuda.is_available()}))
"""
PROBE_SECONDS = 60.0


def packages() -> None:
    """All that are needed can be imported.

    Raises:
        SystemExit: one is missing, or too old.
    """
    missing = [name for module, name in PACKAGES.items() if importlib.util.find_spec(module) is None]
    if missing:
        _end(f"{sys.executable} has no {', '.join(missing)}", f"{sys.executable} -m pip install {' '.join(missing)}")
    import pynvml

    if not hasattr(pynvml, "c_nvmlGetMemoryLimits_v1_t"):
        _end("nvidia-ml-py is too old for the agent", f"{sys.executable} -m pip install 'nvidia-ml-py>=13.615'")


def gpu() -> "Gpu":
    """The GPU with the most free memory.

    Raises:
        SystemExit: there is none.
    """
    import pynvml

    from benchmarks.gpu_check import nvml

    try:
        found = nvml.gpus()
        if not found:
            _end("NVML shows no GPU", "run this on a machine with an NVIDIA GPU; see `nvidia-smi`")
        return max(found, key=lambda one: one.v2().free)
    except pynvml.NVMLError as error:
        _end(f"there is no usable NVIDIA GPU here: NVML: {error}", "install the NVIDIA driver; see `nvidia-smi`")


def torch() -> dict[str, Any]:
    """Its versions.

    Raises:
        SystemExit: it can't use CUDA.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROBE], check=False, capture_output=True, text=True, timeout=PROBE_SECONDS
        )
    except subprocess.TimeoutExpired:
        _end(f"torch does not load in {PROBE_SECONDS:.0f} s", "see what `python3 -c 'import torch'` does")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        _end(f"torch does not load: {last}", "install it again, for this machine's driver")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if not found["available"]:
        _end(f"torch {found['torch']} can't use the GPU", "install a torch built for CUDA and for this driver")
    return found


def _end(what: str, fix: str) -> NoReturn:
    raise SystemExit(f"ERROR: {what}. FIX: {fix}")
