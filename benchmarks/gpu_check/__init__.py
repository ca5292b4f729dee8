"""What Hive claims of a GPU, checked on a real one: the real agent, real CUDA engines, real kills, in under 3 minutes.

Why: everything else here is tested over a fake NVML. A fake can't tell how large a CUDA context is, whether PyTorch's
cap holds on this driver, whether NVML names PIDs that /proc knows, or how long the driver takes to give memory back.

    make gpu-check                          # or: python3 -m benchmarks.gpu_check

It needs one NVIDIA GPU with some free GiB and Python 3.11 with torch (2.10 or later, with CUDA), nvidia-ml-py, aiohttp,
pydantic and prometheus-client; no network, no root, nothing of the project's own environment. What is missing it says
in one line. Budgets follow what is free, at most 6 GiB each, so other users of the GPU are left alone.

It starts `python -m vram_agent` and three engines. Each is a holder (`holder`) that asks for a lease and a child of it
(`engine`) that uses torch.cuda, pinned and capped with the environment that a replica gives to vLLM. One more process
takes memory without a lease. Holder and agent are killed. The check reads NVML itself (`nvml`), many times a second,
and believes nothing that the agent or torch says without it.

Each check is a function of the `Context` and one line of the result, `ok` or `FAILED`, with its figures. One that can't
be made is a FAILED one that says why; the rest go on. Where NVML lists no process, or PIDs that are not ours, as in
containers without hostPID, `pids` says so, and the others take what they can from the whole GPU's figure.

Writes gpu_check.json and gpu_check.md to benchmarks/results, or to $HIVE_GPU_CHECK_RESULTS. Exit code 1 if any failed.
It leaves no process behind: engines end when this one does, however it ends, and so does the agent.
"""
