"""Workers: which process does a thing, and whether it still lives.

A process is named `machine:pid:start`, so a number that the system gave out again is another name. A
machine is `host/boot.space`: containers of one machine may share its name, and each counts its
processes for itself.
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


@cache
def space() -> str:
    """What tells the numbers of our processes from those of another container of this machine."""
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)  # noqa: PTH116 - Path would read where it leads
    except OSError:
        return "unknown"


def machine() -> str:
    """Where the number of a process means this very process."""
    return f"{socket.gethostname()}/{boot()}.{space()}"


def this_worker() -> str:
    """The name of this process."""
    pid = os.getpid()
    return f"{machine()}:{pid}:{start_time(pid) or 0}"


def is_dead(worker: str | None) -> bool:
    """Whether *worker* surely runs no more; a worker of another machine is never surely dead."""
    if not worker:
        return False
    where, pid, started = worker.rsplit(":", 2)
    if where != machine() or started == "0":
        return False
    return start_time(int(pid)) != started
