"""Findings: what the doctor says of one part, and what to do about it."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"  # it works, and something will go wrong some day
    PROBLEM = "problem"  # something does not work


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    part: str
    level: Level
    what: str
    fix: str = ""

    def to_json(self) -> dict[str, Any]:
        """The finding for a program."""
        return asdict(self)


def fine(part: str, what: str) -> Finding:
    """What is as it should be."""
    return Finding(part, Level.OK, what)


def warning(part: str, what: str, *, fix: str) -> Finding:
    """What works today."""
    return Finding(part, Level.WARNING, what, fix)


def problem(part: str, what: str, *, fix: str) -> Finding:
    """What does not work."""
    return Finding(part, Level.PROBLEM, what, fix)


# Leases and expiries are the database's; what people read beside them is of this machine.
SLOW_CLOCK = timedelta(seconds=5)
WRONG_CLOCK = timedelta(minutes=1)
# S3 refuses a request that was signed so long ago, and says only that it is forbidden.
REFUSED_CLOCK = timedelta(minutes=15)


def compare_clocks(part: str, *, theirs: datetime, ours: datetime) -> Finding:
    """What is to be said of the difference between two clocks."""
    apart = abs(theirs - ours)
    what = f"its clock is {apart.total_seconds():.1f} s {'ahead of' if theirs > ours else 'behind'} ours"
    fix = "let both machines follow the same time server (NTP)"
    if apart >= WRONG_CLOCK:
        return problem(part, what, fix=fix)
    if apart >= SLOW_CLOCK:
        return warning(part, what, fix=fix)
    return fine(part, what)


Findings = Iterator[Finding]
