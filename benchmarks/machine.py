"""What a benchmark ran on, for its result file."""

import os
import platform
from pathlib import Path


def describe() -> dict[str, str]:
    """CPU, kernel, memory and Python of this machine; the load says whether others used it at the same time."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = Path("/proc/meminfo").read_text().split()[1]
    return {
        "cpu": f"{os.cpu_count()} x {names[0].partition(':')[2].strip() if names else platform.machine()}",
        "memory": f"{int(memory) / 1024 / 1024:.1f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_1min": f"{os.getloadavg()[0]:.2f}",
    }
