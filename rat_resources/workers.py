"""Workers: which process does a thing, and whether it still lives.

A process is named `host:pid:start`, so a number that the system gave out again is another name.
"""

import os
import socket
from functools import cache
from pathlib import Path


def start_time(pid: int) -> str | None:
    """When process *pid* of this machine started, in clock ticks since boot; None: no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # The second field is the command in parentheses, which may hold spaces.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


@cache
def boot() -> str:
    """What tells this boot of this machine from any other."""
    boot_id = Path("/proc/sys/kernel/random/boot_id")
    return boot_id.read_text().strip()[:8] if boot_id.exists() else "unknown"


def this_worker() -> str:
    """The name of this process."""
    pid = os.getpid()
    return f"{socket.gethostname()}/{boot()}:{pid}:{start_time(pid) or 0}"


def is_dead(worker: str | None) -> bool:
    """Whether *worker* surely runs no more; a worker of another machine is never surely dead."""
    if not worker:
        return False
    machine, pid, started = worker.rsplit(":", 2)
    if machine != f"{socket.gethostname()}/{boot()}" or started == "0":
        return False
    return start_time(int(pid)) != started
