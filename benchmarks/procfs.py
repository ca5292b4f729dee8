"""What /proc says of a process, read apart from the agent's own code: a judge must not share the bugs of the judged."""

import os
from pathlib import Path

KIB = 1024
TICKS = os.sysconf("SC_CLK_TCK")  # in a second


def cpu_seconds(pid: int) -> float:
    """CPU time so far: proc_pid_stat(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident(pid: int | str) -> int | None:
    """Bytes of anonymous and shared memory; 0 while the process is torn down; None when it is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    if fields["State"].split()[0] in "ZX":
        return None
    return sum(int(fields[key].split()[0]) * KIB for key in ("RssAnon", "RssShmem") if key in fields)
