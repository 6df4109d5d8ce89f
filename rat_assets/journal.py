"""The journal of a run: what it said, and what each of its phases cost.

Lines go to Dagster's log at once, to Postgres and the store when the run ends, and to whoever
listens in this process (`rat run` shows them as they come).
"""

import json
import logging
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from rat_resources.names import TableName

LINES_IN_POSTGRES = 200
PHASES = ("branch", "compile", "write", "test", "publish")

Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True)
class Line:
    """One thing that a run said."""

    timestamp: str
    level: Level
    message: str


@dataclass
class Profile:
    """What one phase cost; rows and bytes are filled in by the phase itself."""

    phase: str
    ms: int = 0
    rows: int | None = None
    bytes: int | None = None
    peak_memory: int = 0


@dataclass(frozen=True)
class Progress:
    """A phase that began or ended, or a line that was said."""

    table: TableName
    phase: str
    state: Literal["begun", "ended", "failed", "said"]
    message: str = ""
    level: Level = "info"
    ms: int = 0


Listener = Callable[[Progress], None]
listeners: list[Listener] = []


@dataclass
class Journal:
    """Everything that one attempt says and costs."""

    table: TableName
    log: logging.Logger
    lines: list[Line] = field(default_factory=list)
    profiles: list[Profile] = field(default_factory=list)
    current: str = ""

    def say(self, message: str, *, level: Level = "info") -> None:
        """Say one line, everywhere."""
        stamp = datetime.now(UTC).isoformat()
        self.lines.append(Line(stamp, level, message))
        self.log.log(logging.getLevelNamesMapping()[level.upper()], message)
        self.tell(Progress(self.table, self.current, "said", message, level))

    def tell(self, progress: Progress) -> None:
        """Tell whoever listens in this process."""
        for listener in listeners:
            listener(progress)

    @contextmanager
    def phase(self, name: str) -> Iterator[Profile]:
        """Time one phase of the run."""
        profile = Profile(name)
        self.profiles.append(profile)
        self.current = name
        self.tell(Progress(self.table, name, "begun"))
        forget_peak_memory()
        started = perf_counter()
        state: Literal["ended", "failed"] = "failed"
        try:
            yield profile
            state = "ended"
        finally:
            profile.ms = round((perf_counter() - started) * 1000)
            profile.peak_memory = peak_memory()
            self.tell(Progress(self.table, name, state, ms=profile.ms))

    @property
    def newest(self) -> list[dict[str, Any]]:
        """The newest lines, as `rat.runs.logs` keeps them."""
        return [asdict(line) for line in self.lines[-LINES_IN_POSTGRES:]]

    @property
    def phase_profiles(self) -> list[dict[str, Any]]:
        """The profiles, as `rat.runs.phase_profiles` keeps them."""
        return [asdict(profile) for profile in self.profiles]

    def as_text(self) -> bytes:
        """All lines as JSON lines, as the store keeps them."""
        return "".join(f"{json.dumps(asdict(line))}\n" for line in self.lines).encode()


def forget_peak_memory() -> None:
    """Let the kernel measure this process's peak memory anew, where it can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory() -> int:
    """The most memory, in bytes, that this process held since it was last forgotten."""
    try:
        status = Path("/proc/self/status").read_text()
        line = next(each for each in status.splitlines() if each.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
