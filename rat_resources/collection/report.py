"""Reports: what a round of the collector looked at, what it needs no more, and what it removed."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass
class Amount:
    """Some files, and their bytes."""

    files: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """One file more."""
        self.files += 1
        self.bytes += size

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.files + other.files, self.bytes + other.bytes)

    def __bool__(self) -> bool:
        return self.files > 0

    def __str__(self) -> str:
        noun = "file" if self.files == 1 else "files"
        return f"{self.files:,} {noun} ({in_units(self.bytes)})"

    def to_json(self) -> Mapping[str, int]:
        """The same for a program."""
        return {"files": self.files, "bytes": self.bytes}


FATES = (
    "needed",  # something refers to it
    "young",  # a run may be about to commit it
    "noted",  # nothing refers to it; seen for the first time
    "waiting",  # nothing has referred to it for a while
    "removed",  # nothing has referred to it for long enough
    "strange",  # it does not look like a file of the lake's
    "kept",  # nothing refers to it, as far as its table could be read
    "stuck",  # it could not be removed
)


@dataclass
class Folder:
    """What became of the files of one table."""

    table: str
    location: str
    amounts: dict[str, Amount] = field(
        default_factory=lambda: {fate: Amount() for fate in FATES}
    )
    kept_because: str = ""  # why nothing of it may go

    def to_json(self) -> Mapping[str, Any]:
        """The same for a program."""
        told = {fate: some.to_json() for fate, some in self.amounts.items() if some}
        said = {"table": self.table, "location": self.location, **told}
        return {**said, **({"kept": self.kept_because} if self.kept_because else {})}


@dataclass
class Collected:
    """What a round looked at, and what it removed, or would."""

    is_dry: bool
    folders: list[Folder] = field(default_factory=list)
    needs: Counter[str] = field(default_factory=Counter)  # who asked for how much
    problems: list[str] = field(default_factory=list)  # a line each
    history_since: datetime | None = None  # main's commits since then can be read

    def total(self, fate: str) -> Amount:
        """The files of all tables that had this fate."""
        return sum((each.amounts[fate] for each in self.folders), Amount())

    @property
    def removed(self) -> Amount:
        """What was removed, or would be."""
        return self.total("removed")

    @property
    def lines(self) -> Iterator[str]:
        """What was done, a line each."""
        word = "would be removed" if self.is_dry else "removed"
        for each in self.folders:
            if each.amounts["removed"]:
                yield f"{each.table}: {each.amounts['removed']} {word}"
        looked_at = sum((self.total(fate) for fate in FATES), Amount())
        needed = self.total("needed")
        where = f"{looked_at} of {len(self.folders)} tables"
        yield f"{where}: {needed} needed, {self.removed} {word}"
        if young := self.total("young"):
            yield f"{young} that nothing needs yet are too young to be judged"
        idle = self.total("noted") + self.total("waiting")
        if idle:
            yield f"{idle} that nothing needs wait until that was so for long enough"
        yield from self.problems

    def to_json(self) -> Mapping[str, Any]:
        """The same for a program."""
        return {
            "dry_run": self.is_dry,
            **{fate: self.total(fate).to_json() for fate in FATES},
            "tables": [each.to_json() for each in self.folders],
            "needs": dict(self.needs),
            "problems": self.problems,
            "history_since": self.history_since and self.history_since.isoformat(),
        }


UNITS: Sequence[str] = ("bytes", "KB", "MB", "GB", "TB", "PB")


def in_units(number: float) -> str:
    """So many bytes as people say it."""
    for unit in UNITS[:-1]:
        if number < 1000:  # noqa: PLR2004
            return (
                f"{number:,.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
            )
        number /= 1000
    return f"{number:.1f} {UNITS[-1]}"
