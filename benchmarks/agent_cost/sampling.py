"""CPU seconds that one reading of all GPUs takes: `python -m benchmarks.agent_cost.sampling ROUNDS`."""

import sys
import time

from vram_agent.devices import NvmlSource

if __name__ == "__main__":
    rounds = int(sys.argv[1])
    source = NvmlSource()
    began = time.process_time()
    for _ in range(rounds):
        source.sample([], 0.0)
    print((time.process_time() - began) / rounds)
