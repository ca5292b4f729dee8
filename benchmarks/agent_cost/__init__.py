"""What the VRAM agent costs its node: CPU, memory, and the time of its answers, with 64 and with 256 leases.

Why: the agent runs on every GPU node beside the engines, and every start of an engine waits for its answer.

    python -m benchmarks.agent_cost             # about three minutes; needs a C compiler, no GPU and no root

The real agent runs as its own process, on the fake NVML library of tests/fake_nvml. Each lease is held by a real
sleeping process with three children, as a replica has them. Measured from outside: CPU from /proc/PID/stat while
nothing is asked; then 400 engines that come and go on devices with room; then state and metrics as Prometheus reads
them. `--profile` also says which functions the CPU time goes to, by sampling (`profiled`).

The fake library parses its text file at every call, which NVIDIA's does not; what that costs is measured apart.
"""
