"""Memory: how much of the machine one DuckDB may take, and Arrow beside it.

A run, a preview and a query each open a DuckDB of their own, so the default leaves room for two of
them and for all that is not theirs: half of what the machine has, or the container.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rat_resources.errors import SettingsError

VARIABLE = "RAT_MEMORY_LIMIT"
DEFAULT = "50%"
# With less DuckDB cannot even write a table of ten columns.
LEAST = 128 * 1024 * 1024
UNITS = {
    "": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 1 << 10,
    "MIB": 1 << 20,
    "GIB": 1 << 30,
    "TIB": 1 << 40,
}
AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?B|%)", re.IGNORECASE)
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
# Of the budget, for what PyIceberg and PyArrow hold while they hand rows to DuckDB.
ARROW_SHARE = 8
MOST_ARROW = 256 * 1024 * 1024


@dataclass(frozen=True)
class Budget:
    """What one step may take, in bytes: DuckDB and Arrow together."""

    total: int

    @property
    def arrow(self) -> int:
        """What Arrow may hold on the way to DuckDB."""
        return min(self.total // ARROW_SHARE, MOST_ARROW)

    @property
    def duckdb(self) -> int:
        """What DuckDB may hold before it spills."""
        return self.total - self.arrow

    def __str__(self) -> str:
        return f"{self.total / 10**9:.1f} GB"


def read_budget(environ: Mapping[str, str] | None = None) -> Budget:
    """What the setting says, or the default; SettingsError if it is no amount of memory."""
    environ = os.environ if environ is None else environ
    said = environ.get(VARIABLE) or DEFAULT
    found = AMOUNT.fullmatch(said.strip())
    if found is None:
        message = f"{VARIABLE}={said} is no amount of memory"
        raise SettingsError(message, fix=f"write {VARIABLE}=4GB, or a share: 50%")
    number, unit = float(found[1]), found[2].upper()
    if unit == "%" and number > 100:  # noqa: PLR2004 - per cent
        message = f"{VARIABLE}={said} is more than all memory"
        raise SettingsError(message, fix=f"write a share of at most 100%: {DEFAULT}")
    total = available() * number / 100 if unit == "%" else number * UNITS[unit]
    if VARIABLE in environ and total < LEAST:
        message = f"{VARIABLE}={said} is too little to work with"
        raise SettingsError(message, fix=f"give it {VARIABLE}=512MB or more")
    return Budget(max(int(total), LEAST))


def available() -> int:
    """The memory of the machine, or of the container if that has less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *filter(None, map(_limit, LIMITS))])


def _limit(path: str) -> int | None:
    """The limit that a file of cgroups tells of; no container, no file, no limit."""
    try:
        words = Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(words) if words.isdecimal() else None
