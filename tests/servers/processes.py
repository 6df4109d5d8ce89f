"""Processes of servers: started apart from us, found by their folder, ended by their id."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rat_resources.metadata.embedded import locked

PATIENCE = 60.0  # seconds
# Python warns of a child that nobody holds any more.
CHILDREN: dict[int, subprocess.Popen[bytes]] = {}


class ServerError(Exception):
    """A server does not start, or something that it needs is missing."""


@dataclass(frozen=True)
class Daemon:
    """One server's process, told by files in its folder."""

    folder: Path

    @property
    def log(self) -> Path:
        """What the process says."""
        return self.folder / "log"

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        try:
            pid, born = json.loads((self.folder / "pid").read_text())
        except (OSError, ValueError):
            return None
        return pid if birth(pid) == born else None

    def start(
        self, command: Sequence[str], *, environ: Mapping[str, str] | None = None
    ) -> None:
        """Start the process; it outlives this one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environ or {})},
                start_new_session=True,
            )
        CHILDREN[process.pid] = process
        born = birth(process.pid)
        (self.folder / "pid").write_text(json.dumps([process.pid, born]))

    def await_true(self, is_ready: Callable[[], bool], *, what: str) -> None:
        """Wait until *is_ready*; ServerError with the end of the log if it ends or takes too long."""
        end = time.monotonic() + PATIENCE
        while not is_ready():
            if self.pid is None or time.monotonic() > end:
                tail = "\n".join(self.log.read_text().splitlines()[-20:])
                message = f"{what} does not start; the end of {self.log}:\n{tail}"
                raise ServerError(message)
            time.sleep(0.05)

    def end(self, sign: signal.Signals = signal.SIGTERM) -> None:
        """End the process, and wait until it is gone."""
        pid = self.pid
        if pid is None:
            return
        with suppress(ProcessLookupError):
            os.kill(pid, sign)
        until = time.monotonic() + PATIENCE
        while self.pid is not None:
            if time.monotonic() > until:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        if pid in CHILDREN:
            CHILDREN.pop(pid).wait()

    def pause(self) -> None:
        """Let the process stand still; whoever asks it gets no answer."""
        os.kill(self.pid or 0, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.pid or 0, signal.SIGCONT)


def birth(pid: int) -> str | None:
    """What tells a running process from another one of the same id; None when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def free_ports(number: int) -> list[int]:
    """So many ports of 127.0.0.1 that nobody uses."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@contextmanager
def remembered(
    folder: Path, name: str, make: Callable[[], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """What *make* made when this was first asked for in *folder*; nobody else has it meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / f"{name}.lock"):
        path = folder / f"{name}.json"
        if not path.is_file():
            path.write_text(json.dumps(make()))
        yield json.loads(path.read_text())
