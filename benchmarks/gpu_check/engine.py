"""The process in the GPU: holds memory through torch and multiplies matrices. One command a line on stdin, as JSON; one
answer a line on stdout. Ends at once with its stdin, whatever it does: then the check is over.
"""

import json
import os
import queue
import sys
import threading
import time
from typing import Any

MIB = 1024 * 1024
BLOCK = 32 * MIB  # torch asks the driver for blocks of this size one by one
FIRST = 2 * MIB  # the smallest that makes torch reserve memory of its own size
SIDE = 1024  # of the matrices


class Engine:
    """Its public methods are the commands.

    Args:
        torch: the module.
    """

    def __init__(self, torch: Any) -> None:
        self.torch = torch
        self.blocks: list[Any] = []
        self.working = False
        self.steps = 0
        self._matrices: list[Any] = []
        self._last_step: float | None = None
        self._longest = 0.0

    def open(self) -> dict[str, Any]:
        """Make the CUDA context; what torch sees."""
        cuda = self.torch.cuda
        self.blocks.append(self.torch.empty(FIRST, dtype=self.torch.uint8, device="cuda"))
        cuda.synchronize()
        seen = cuda.get_device_properties(0)
        return {
            "pid": os.getpid(),
            "count": cuda.device_count(),
            "uuid": str(seen.uuid),
            "total": seen.total_memory,
            **self.stats(),
        }

    def take(self, size: int) -> dict[str, Any]:
        """Allocate until torch has reserved about `size` bytes."""
        while self.torch.cuda.memory_reserved() + BLOCK <= size:
            self.blocks.append(self._block())
        self.torch.cuda.synchronize()
        return self.stats()

    def exceed(self, size: int) -> dict[str, Any]:
        """Allocate on towards `size` bytes until torch refuses; how far it came. Then give back what was taken."""
        before, error, message = len(self.blocks), None, ""
        reserved = 0
        try:
            while self.torch.cuda.memory_reserved() < size:
                self.blocks.append(self._block())
                reserved = self.torch.cuda.memory_reserved()
        except self.torch.cuda.OutOfMemoryError as caught:
            error, message = "OutOfMemoryError", str(caught).partition("\n")[0]
        time.sleep(0.2)  # long enough for everyone who samples
        del self.blocks[before:]
        self.torch.cuda.empty_cache()
        return {"error": error, "message": message, "reached": reserved, **self.stats()}

    def work(self, steps: int) -> dict[str, Any]:
        """Multiply so many times, and with 0 from now on between commands."""
        for _ in range(steps):
            self.step()
        self.working = not steps
        self._last_step = None
        return self.stats()

    def rest(self) -> dict[str, Any]:
        self.working = False
        return self.stats()

    def stats(self) -> dict[str, Any]:
        """Sizes of torch, steps so far, and the longest time between two since the last question."""
        longest, self._longest = self._longest, 0.0
        return {"reserved": self.torch.cuda.memory_reserved(), "steps": self.steps, "longest_gap": longest}

    def step(self) -> None:
        """One product, done when this returns."""
        if not self._matrices:
            self._matrices = [self.torch.ones(SIDE, SIDE, dtype=self.torch.float16, device="cuda") for _ in range(3)]
        left, right, product = self._matrices
        self.torch.matmul(left, right, out=product)
        self.torch.cuda.synchronize()
        now = time.monotonic()
        if self._last_step is not None:
            self._longest = max(self._longest, now - self._last_step)
        self._last_step = now
        self.steps += 1

    def _block(self) -> Any:
        return self.torch.empty(BLOCK, dtype=self.torch.uint8, device="cuda")


def listen(commands: "queue.Queue[Any]") -> None:
    for line in sys.stdin:
        commands.put(json.loads(line))
    os._exit(0)


def main() -> None:
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever torch prints is no answer
    commands: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=listen, args=(commands,), daemon=True).start()
    import torch

    engine = Engine(torch)
    names = ("open", "take", "exceed", "work", "rest", "stats")
    while True:
        try:
            name, arguments = commands.get(block=not engine.working)
        except queue.Empty:
            engine.step()
            continue
        if name not in names:
            raise ValueError(f"there is no command {name}")
        try:
            answer = getattr(engine, name)(*arguments)
        except Exception as error:
            answer = {"failed": f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"}
        os.write(answers, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()
