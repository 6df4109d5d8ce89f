"""Paper: tables of figures, printed and kept in docs/benchmarks.md with the machine they are of.

A benchmark owns one section of the page; running it again replaces that section alone.
"""

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Each section is written by the script of its name, which measures RAT beside its peers in one run on
one machine; what counts are the ratios. `python benchmarks/NAME.py` replaces its section.
"""
PACKAGES = ("dagster", "duckdb", "pyiceberg")


@dataclass(frozen=True)
class Figures:
    """A table of figures; the first column names what was measured."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def keep(name: str, *parts: Figures | str) -> None:
    """Print a benchmark's findings, and make them its section of the page."""
    body = "\n\n".join(str(part).strip() for part in parts)
    print(body)  # noqa: T201 - a table on the terminal is what was asked for
    section = f"## {name}\n\n{machine()}\n\n{body}\n"
    old = PAGE.read_text() if PAGE.exists() else HEAD
    found = re.compile(
        rf"^## {re.escape(name)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL
    )
    page = (
        found.sub(lambda _: f"{section}\n", old)
        if found.search(old)
        else f"{old.rstrip()}\n\n{section}"
    )
    PAGE.write_text(f"{page.rstrip()}\n")


def machine() -> str:
    """The machine and the versions, in a line."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{datetime.now(UTC):%Y-%m-%d} · {processor()}, {os.cpu_count()} cores, {memory()} · "
        f"{platform.system()} {platform.release().split('-')[0]} · "
        f"Python {platform.python_version()}, {versions}"
    )


def processor() -> str:
    """What the processor calls itself."""
    names = re.findall(r"^model name\s*:\s*(.+)$", read("/proc/cpuinfo"), re.MULTILINE)
    return names[0].strip() if names else platform.machine()


def memory() -> str:
    """How much memory there is."""
    found = re.search(r"^MemTotal:\s*(\d+) kB", read("/proc/meminfo"), re.MULTILINE)
    return f"{int(found[1]) / 2**20:.0f} GiB" if found else "memory unknown"


def read(path: str) -> str:
    """A file of the system's, empty where it has none."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def ms(seconds: float) -> str:
    """A duration in milliseconds."""
    return f"{seconds * 1000:,.0f} ms"


def s(seconds: float) -> str:
    """A duration in seconds."""
    return f"{seconds:.2f} s"
