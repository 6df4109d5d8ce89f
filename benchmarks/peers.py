"""Peers: each measured in a process of its own, on the same generated rows.

A peer is a function of a module here that returns what it took: it makes ready what it needs, and does
what is measured under `with measured() as took`. `sample` runs it several times, each time in a new
process, and gives the median; its arguments travel as JSON.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.paper import ms, read, s
from benchmarks.place import PROJECT

ROUNDS = 5
LONG = 20.0  # seconds, of which a peer is not measured five times
FEW = 2
ASKED = "RAT_BENCHMARK_ROUNDS"  # fewer, for somebody in a hurry
DATA = PROJECT / ".benchmarks" / "data"
NAMES = {"M": 1_000_000, "k": 1_000}

# Ten columns of a shop's sales, in the order of id and of time; the same at every call.
COLUMNS = """
    i AS id,
    (hash(i) % 1000000)::BIGINT AS customer,
    DATE '2024-01-01' + (i * 730 // {rows})::INTEGER AS day,
    ['de', 'fr', 'it', 'es', 'nl', 'se', 'pl', 'at'][1 + (hash(i + 1) % 8)::INTEGER] AS country,
    (hash(i + 2) % 5000)::INTEGER AS product,
    (1 + hash(i + 3) % 9)::INTEGER AS quantity,
    ((hash(i + 4) % 100000) / 100)::DECIMAL(10, 2) AS price,
    'order ' || (hash(i + 5) % 10000000)::VARCHAR AS note,
    hash(i + 6) % 10 < 9 AS paid,
    TIMESTAMPTZ '2024-01-01' + to_microseconds(i * (63072000000000 // {rows})) AS updated_at
"""


# In the process of a peer.


@dataclass
class Took:
    """What a peer took: its time, and the most memory that its process held meanwhile."""

    seconds: float = 0.0
    megabytes: float = 0.0


@contextmanager
def measured() -> Iterator[Took]:
    """What the block takes; it is known when the block ends."""
    took = Took()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak until now
    started = perf_counter()
    yield took
    took.seconds = perf_counter() - started
    took.megabytes = peak()


def peak() -> float:
    """The most megabytes that this process has held."""
    found = re.search(r"^VmHWM:\s*(\d+) kB", read("/proc/self/status"), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def main() -> None:
    """Run one peer, and tell what it took."""
    module, name, arguments = sys.argv[1:]
    took = getattr(import_module(module), name)(*json.loads(arguments))
    print(json.dumps(asdict(took)))  # noqa: T201 - whoever started this process reads it


# In the benchmark's process.


@dataclass(frozen=True)
class Sample:
    """The medians of several times."""

    seconds: float
    megabytes: float
    rounds: int

    @property
    def time(self) -> str:
        """The time as it is shown; with how often it was measured where that is less than usual."""
        words = ms(self.seconds) if self.seconds < 1 else s(self.seconds)
        return words if self.rounds == ROUNDS else f"{words} ({self.rounds}×)"

    @property
    def memory(self) -> str:
        """The peak memory as it is shown."""
        return f"{self.megabytes:,.0f} MB"

    def against(self, other: "Sample") -> str:
        """How many times as long as *other* it took."""
        return f"{self.seconds / other.seconds:.2f} ×"


def sample(peer: Callable[..., Took], *arguments: object) -> Sample:
    """The median of what *peer* took with these arguments; fewer rounds where it takes long."""
    rounds = [run(peer, arguments)]
    usual = int(os.environ.get(ASKED, ROUNDS))
    wanted = min(FEW, usual) if rounds[0].seconds > LONG else usual
    while len(rounds) < wanted:
        rounds.append(run(peer, arguments))
    return Sample(
        median(each.seconds for each in rounds),
        median(each.megabytes for each in rounds),
        len(rounds),
    )


def run(peer: Callable[..., Took], arguments: Sequence[object]) -> Took:
    """What a peer took in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.peers"]
    words += [module_of(peer), peer.__name__, json.dumps(arguments, default=str)]
    done = subprocess.run(  # noqa: S603 - a benchmark's own words
        words, cwd=PROJECT, capture_output=True, text=True, check=False, env=os.environ
    )
    if done.returncode:
        message = f"{peer.__name__}{tuple(arguments)} failed:\n{done.stderr}"
        raise SystemExit(message)
    return Took(**json.loads(done.stdout.splitlines()[-1]))


def module_of(peer: Callable[..., Took]) -> str:
    """The module of a peer, which may be the one that was started."""
    if peer.__module__ != "__main__":
        return peer.__module__
    return f"benchmarks.{Path(sys.modules['__main__'].__file__ or '').stem}"


# What they work on.


def sizes(default: str = "1M,10M", *, about: str = "") -> list[int]:
    """The numbers of rows to measure, as `--rows 1M,10M` has them."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--rows", default=default, help=f"as in {default}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each peer")
    asked = parser.parse_args()
    os.environ[ASKED] = str(asked.rounds)
    return [number(words) for words in asked.rows.split(",")]


def number(words: str) -> int:
    """What `10M` or `50k` means."""
    unit = NAMES.get(words[-1], 1)
    return int(words.rstrip("Mk")) * unit


def short(rows: int) -> str:
    """How a number is called."""
    for name, unit in NAMES.items():
        if rows >= unit and rows % unit == 0:
            return f"{rows // unit} {name}"
    return f"{rows:,}"


def select_rows(rows: int, *, first: int = 0, of: int | None = None) -> str:
    """A query for rows number *first* and on, of a table of *of* rows."""
    columns = COLUMNS.format(rows=of or rows)
    return f"SELECT {columns} FROM range({first}, {first + rows}) AS numbers(i)"


def sales(rows: int) -> str:
    """A Parquet file of so many rows, made once."""
    import duckdb  # noqa: PLC0415 - a peer without it may be measured, too

    path = DATA / f"sales-{rows}.parquet"
    if not path.exists():
        DATA.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(
                f"COPY ({select_rows(rows)}) TO '{draft}' (FORMAT parquet, COMPRESSION zstd)"
            )
        draft.rename(path)
    return str(path)


if __name__ == "__main__":
    main()
