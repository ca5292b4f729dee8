"""AMX for vLLM's workers on a CPU.

vLLM 0.29 computes attention with AMX tiles wherever the CPU has them, without asking the kernel for them first, and
Linux ends a process with SIGILL that does so. Only the process itself can ask, and a worker is one of its own: vLLM
imports this module there (engine argument `worker_extension_cls`), and that asks.
Source: Documentation/arch/x86/xstate.rst of Linux.
"""

import ctypes
import platform

SYS_ARCH_PRCTL = 158  # on x86-64
ARCH_REQ_XCOMP_PERM = 0x1023
XFEATURE_XTILEDATA = 18

if platform.machine() == "x86_64":  # a CPU without AMX, or an older kernel, says no: then nothing uses it either
    ctypes.CDLL(None).syscall(SYS_ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)


class WithAmx:
    """Adds nothing to vLLM's worker class."""
