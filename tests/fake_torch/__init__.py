"""A `torch` that takes its memory from the fake NVML: put this folder on PYTHONPATH."""
