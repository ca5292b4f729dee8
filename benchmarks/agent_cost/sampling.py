"""CPU seconds of one reading of all GPUs, without the agent: `python -m benchmarks.agent_cost.sampling ROUNDS`."""

import sys
import time

import pynvml

if __name__ == "__main__":
    rounds = int(sys.argv[1])
    pynvml.nvmlInit()
    handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    began = time.process_time()
    for _ in range(rounds):
        for handle in handles:
            pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
            pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    print((time.process_time() - began) / rounds)
