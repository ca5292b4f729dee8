"""The agent with a sampling profiler: `python -m benchmarks.agent_cost.profiled FILE`.

From SIGUSR1 on it notes the stack of each thread that is not waiting, every millisecond of CPU time. At SIGUSR2 it
writes to FILE, as JSON, the share of samples that each function is in, callees included, and where the samples ended.
"""

import json
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from vram_agent.__main__ import main

INTERVAL = 0.001  # seconds of CPU time
WAITING = {"select", "poll", "wait", "_worker"}  # where an idle thread's stack ends


class Sampler:
    """Counts stacks."""

    def __init__(self) -> None:
        self.samples = 0
        self.within: Counter[str] = Counter()
        self.at: Counter[str] = Counter()

    def note(self, _: int, frame: FrameType | None) -> None:
        stacks = sys._current_frames()
        stacks.pop(threading.get_ident(), None)
        for top in [frame, *stacks.values()]:
            if top is None or top.f_code.co_name in WAITING:
                continue
            names = list(_names(top))
            self.samples += 1
            self.at[names[0]] += 1
            self.within.update(set(names))

    def write(self, path: Path) -> None:
        def shares(counts: Counter[str]) -> dict[str, float]:
            return {name: round(count / max(1, self.samples), 4) for name, count in counts.most_common(40)}

        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({"samples": self.samples, "within": shares(self.within), "at": shares(self.at)}))
        fresh.rename(path)


def _names(frame: FrameType | None) -> Iterator[str]:
    while frame is not None:
        yield f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_qualname}"
        frame = frame.f_back


if __name__ == "__main__":
    sampler = Sampler()
    signal.signal(signal.SIGPROF, sampler.note)
    signal.signal(signal.SIGUSR1, lambda *_: signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL))
    signal.signal(signal.SIGUSR2, lambda *_: sampler.write(Path(sys.argv[1])))
    main()
