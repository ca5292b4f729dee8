"""Memory without a lease: holds the bytes in argv until it is killed."""

import mmap
import signal
import sys

from benchmarks.vram_storm.script import MIB

size = int(sys.argv[1])
memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
block = b"h" * MIB
for start in range(0, size, MIB):
    memory[start : start + MIB] = block[: min(MIB, size - start)]
while True:
    signal.pause()
