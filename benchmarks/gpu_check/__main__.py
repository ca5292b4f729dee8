"""The command. Also older Pythons can read this file, and are told that they are too old."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit("ERROR: %s is older than Python 3.11. FIX: make PYTHON=python3.12 gpu-check" % sys.executable)  # noqa: UP031

import os
from pathlib import Path

from benchmarks.gpu_check import needs

if __name__ == "__main__":
    needs.packages()
    from benchmarks.gpu_check import run

    results = os.environ.get("HIVE_GPU_CHECK_RESULTS") or Path(__file__).parents[1] / "results"
    sys.exit(not run.main(Path(results)))
