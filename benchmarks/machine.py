"""What a benchmark ran on, for its result file."""

import os
import platform
import subprocess
from pathlib import Path


def describe() -> dict[str, str]:
    """CPU, kernel, memory and Python of this machine, and the code; the load says whether others used it as well."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = Path("/proc/meminfo").read_text().split()[1]
    return {
        "cpu": f"{os.cpu_count()} x {names[0].partition(':')[2].strip() if names else platform.machine()}",
        "memory": f"{int(memory) / 1024 / 1024:.1f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": _commit(),
        "load_1min": f"{os.getloadavg()[0]:.2f}",
    }


def _commit() -> str:
    """The commit that is checked out, with `-dirty` where files differ from it; `unknown` outside of git."""
    program = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(program, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
