"""Long histories: what a write, a read and a plan cost after so many commits, beside PyIceberg's own append.

A table that only grows by a row at a time, maintained as its schedule would do; a table of a million rows
into which a thousand keys are merged again and again; and a main with a hundred thousand commits, made by
SQL that leaves exactly what the layer of refs would have. Each figure is compared with the shortest history.
"""

import argparse
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import dagster as dg
from duckdb import DuckDBPyConnection
from pyiceberg.table import Table
from sqlalchemy import text

from benchmarks.paper import Figures, keep, ms
from benchmarks.peers import select_rows
from benchmarks.place import RAT, Place, command, own_place, seconds
from benchmarks.run_overhead import bare_append
from rat_assets import runner
from rat_assets.runner import RunAsk
from rat_resources import outside
from rat_resources.lake.catalog import read_metadata
from rat_resources.lake.reading import register_table
from rat_resources.lake.refs import MAIN, IcebergTable, Namespace, Put
from rat_resources.lake.strategies import MergeStrategy, WriteConfig, apply
from rat_resources.maintenance.maintaining import maintain
from rat_resources.names import TableName
from rat_resources.platform import Platform, platform

LENGTHS = (100, 1_000, 3_000, 10_000)
MERGES = (100, 300, 1_000)
MAINS = (1_000, 10_000, 100_000)
BARE = (100, 300, 1_000)
LAST = 30  # writes before a length is reached, whose median counts
EVERY = 200  # commits between two rounds of maintenance
ROWS, KEYS = 1_000_000, 1_000
REPEATS = 15
ONE = {"bench/pipelines/gold/one/pipeline.sql": "SELECT 1 AS id, now() AS made_at\n"}


def main() -> None:
    """Measure, and write the section."""
    asked = arguments()
    with own_place() as place:
        command([str(RAT), "publish", str(place.tree(ONE))])
        appends = measure_appends(asked.commits)
        merges = measure_merges(min(asked.commits, asked.merges))
        mains = measure_mains(asked.main)
        bare = measure_bare(place, min(asked.commits, asked.bare))
    keep("history", appends, merges, bare, mains)


def arguments() -> argparse.Namespace:
    """How long the histories are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", type=int, default=LENGTHS[-1])
    parser.add_argument("--merges", type=int, default=MERGES[-1])
    parser.add_argument("--bare", type=int, default=BARE[-1])
    parser.add_argument("--main", type=int, default=MAINS[-1])
    return parser.parse_args()


# A table.


@dataclass
class History:
    """One table, written again and again as runs write: on a branch, merged into main."""

    whole: Platform
    connection: DuckDBPyConnection
    name: TableName
    config: WriteConfig

    def write(self, number: int, query: str) -> float:
        """How long a write takes, from its branch to main."""
        refs, branch = self.whole.lake.refs, f"bench-{self.name.name}-{number}"
        started = perf_counter()
        refs.create(branch, at=MAIN)
        apply(
            self.connection,
            query=query,
            catalog=self.whole.lake.catalog(branch),
            table_name=self.name,
            config=self.config,
            attempt_time=datetime.now(UTC),
        )
        head = refs.head(branch)
        refs.merge(branch, from_hash=head)
        refs.delete(branch, expected_hash=head)
        return perf_counter() - started

    def maintain(self) -> float:
        """How long a round of maintenance takes."""
        return seconds(lambda: maintain(self.whole, only=[self.name]))

    @property
    def table(self) -> Table:
        """The table on main, read anew."""
        read_metadata.cache_clear()
        return self.whole.lake.tables([self.name])[self.name]

    def plan(self) -> float:
        """How long it takes to find the table and its files."""
        return seconds(lambda: list(self.table.scan().plan_files()))

    def read(self) -> float:
        """How long it takes to count all rows of the table, by a column."""
        return seconds(self.count)

    def count(self) -> None:
        """Count the rows of the table."""
        register_table(self.connection, self.table, view="history")
        self.connection.execute("SELECT count(*), max(id) FROM history").fetchall()


@dataclass(frozen=True)
class Stand:
    """What things cost when a history was so long."""

    length: int
    costs: Mapping[str, float]
    sizes: Mapping[str, int]


def measure_appends(longest: int) -> Figures:
    """A row at a time."""
    with opened("append_only", "appended") as history:
        stands = [
            *grow(
                history,
                (each for each in LENGTHS if each <= longest),
                query=lambda number: select_rows(1, first=number, of=LENGTHS[-1]),
                every=EVERY,
            )
        ]
    return figures(f"a table that grows by a row, maintained every {EVERY}", stands)


def measure_merges(longest: int) -> Figures:
    """A thousand keys at a time."""
    with opened("incremental", "merged", unique_key=("id",)) as history:
        history.write(0, select_rows(ROWS))
        stands = [
            *grow(
                history,
                (each for each in MERGES if each <= longest),
                query=change_rows,
                every=EVERY,
            )
        ]
    return figures(
        f"{KEYS:,} keys merged into {ROWS:,} rows, maintained every {EVERY}", stands
    )


def change_rows(number: int) -> str:
    """A thousand rows of somewhere in the table, each with another quantity than ever before."""
    rows = select_rows(KEYS, first=number * 997 * KEYS % (ROWS - KEYS), of=ROWS)
    return f"SELECT * REPLACE ((10 + {number})::INTEGER AS quantity) FROM ({rows})"


def grow(
    history: History,
    lengths: Iterator[int],
    *,
    query: Callable[[int], str],
    every: int,
) -> Iterator[Stand]:
    """What the table costs at each length; only the merged table has rows from before."""
    number, kept = 0, 0.0
    for length in lengths:
        taken: list[float] = []
        while number < length:
            number += 1
            taken.append(history.write(number, query(number)))
            if number % every == 0 and number < length:
                kept = history.maintain()
        table = history.table
        yield Stand(
            length,
            {
                "write": median(taken[-LAST:]),
                "slowest of 100": max(taken[-100:]),
                "plan": median(history.plan() for _ in range(REPEATS)),
                "read": median(history.read() for _ in range(REPEATS)),
                "maintenance": kept,
            },
            sizes_of(table),
        )


def sizes_of(table: Table) -> Mapping[str, int]:
    """What a table names."""
    snapshot = table.current_snapshot()
    manifests = snapshot.manifests(table.io) if snapshot else []
    location = Path(table.metadata_location.removeprefix("file://"))
    return {
        "metadata file, kB": location.stat().st_size // 1000,
        "snapshots": len(table.metadata.snapshots),
        "manifests": len(manifests),
        "data files": len(list(table.scan().plan_files())),
    }


@contextmanager
def opened(strategy: str, name: str, **config: Any) -> Iterator[History]:  # noqa: ANN401 - of WriteConfig
    """A history of a table that is written by a strategy."""
    whole = platform()
    with whole.lake.connect() as connection:
        yield History(
            whole,
            connection,
            TableName("bench", "silver", name),
            WriteConfig(MergeStrategy(strategy), **config),
        )


def figures(what: str, stands: Sequence[Stand]) -> Figures:
    """The costs at each length, each with its ratio to the first, and the sizes."""
    first = stands[0]
    rows = [
        (
            name,
            *(
                f"{ms(each.costs[name])}{ratio(each.costs[name], first.costs[name])}"
                for each in stands
            ),
        )
        for name in first.costs
    ]
    rows += [
        (name, *(f"{each.sizes[name]:,}" for each in stands)) for name in first.sizes
    ]
    return Figures((what, *(f"{each.length:,} commits" for each in stands)), rows)


def ratio(cost: float, first: float) -> str:
    """How many times as much as with the shortest history."""
    return f" ({cost / first:.1f} ×)" if first else ""


# The peer.


def measure_bare(place: Place, longest: int) -> Figures:
    """PyIceberg's append with its defaults, a row at a time, on its own catalog in the same Postgres."""
    append, number = bare_append(place, platform().metadata), 0
    stands = []
    for length in (each for each in BARE if each <= longest):
        taken = []
        while number < length:
            number += 1
            taken.append(seconds(lambda: next(append)))
        stands.append(Stand(length, {"append": median(taken[-LAST:])}, {}))
    return figures("PyIceberg's append, its defaults", stands)


# Main.


def measure_mains(longest: int) -> Figures:
    """What the refs cost, and a whole run, on a main of so many commits."""
    begin()
    stands = []
    made = 0
    for length in (each for each in MAINS if each <= longest):
        lengthen(length - made)
        made = length
        costs = {name: median(each() for _ in range(REPEATS)) for name, each in tasks()}
        stands.append(Stand(length, costs, {}))
    return figures("a main of as many", stands)


def begin() -> None:
    """The namespaces that the tables lie in."""
    refs = platform().lake.refs
    refs.bootstrap()
    spaces = [("bench",), ("bench", "bronze")]
    refs.create("bench-begin", at=MAIN)
    refs.commit(
        "bench-begin", [Put(each, Namespace()) for each in spaces], message="begin"
    )
    refs.merge("bench-begin")


def lengthen(commits: int) -> None:
    """Add as many commits to main as merges of branches would, of a hundred tables."""
    with platform().metadata.engine.begin() as connection:
        connection.execute(text(LENGTHEN), {"commits": commits})
        connection.execute(text(MOVE))
    with platform().metadata.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(text("ANALYZE lake.commits, lake.operations, lake.lines"))


# A branch is a line with one commit, which main merges; both say what the table then holds.
LENGTHEN = """
    WITH main AS MATERIALIZED (
        SELECT refs.line, head.seq, head.hash
        FROM lake.refs
        JOIN lake.commits AS head ON head.hash = refs.hash
        WHERE refs.name = 'main'
    ),
    numbers AS MATERIALIZED (
        SELECT
            n,
            md5('ours' || seq || '/' || n) || md5('main' || seq || '/' || n) AS hash,
            md5('theirs' || seq || '/' || n) || md5('run' || seq || '/' || n) AS branch_hash,
            ARRAY['bench', 'bronze', 'table_' || n % 100] AS key,
            jsonb_build_object(
                'type', 'ICEBERG_TABLE', 'id', md5('table' || n % 100)::uuid::text,
                'metadata_location', 'file:///bench/' || seq + n || '.metadata.json',
                'snapshot_id', seq + n, 'schema_id', 0, 'spec_id', 0, 'sort_order_id', 0
            ) AS content
        FROM main
        CROSS JOIN generate_series(1, :commits) AS n
    ),
    lines AS (
        INSERT INTO lake.lines (parent_line, parent_seq)
        SELECT main.line, main.seq + n - 1
        FROM main
        CROSS JOIN numbers
        ORDER BY n
        RETURNING id, parent_seq
    ),
    theirs AS (
        INSERT INTO lake.commits (
            hash, line, seq, parent_hash, message, authors, properties
        )
        SELECT
            numbers.branch_hash, lines.id, main.seq + n,
            coalesce(lag(numbers.hash) OVER (ORDER BY n), main.hash),
            'append', '{}', '{}'
        FROM main
        CROSS JOIN numbers
        JOIN lines ON lines.parent_seq = main.seq + n - 1
    ),
    ours AS (
        INSERT INTO lake.commits (
            hash, line, seq, parent_hash, merged_hash, merged_line, merged_seq, message,
            authors, properties
        )
        SELECT
            numbers.hash, main.line, main.seq + n,
            coalesce(lag(numbers.hash) OVER (ORDER BY n), main.hash),
            numbers.branch_hash, lines.id, main.seq + n, 'Merge', '{}',
            jsonb_build_object('rat.run_id', md5('run' || main.seq + n)::uuid)
        FROM main
        CROSS JOIN numbers
        JOIN lines ON lines.parent_seq = main.seq + n - 1
    )
    INSERT INTO lake.operations (line, key, seq, content)
    SELECT main.line, numbers.key, main.seq + n, numbers.content
    FROM main
    CROSS JOIN numbers
    UNION ALL
    SELECT lines.id, numbers.key, main.seq + n, numbers.content
    FROM main
    CROSS JOIN numbers
    JOIN lines ON lines.parent_seq = main.seq + n - 1
"""
MOVE = """
    UPDATE lake.refs
    SET hash = (
        SELECT hash FROM lake.commits WHERE commits.line = refs.line ORDER BY seq DESC LIMIT 1
    )
    WHERE name = 'main'
"""


def tasks() -> Iterator[tuple[str, Callable[[], float]]]:
    """What is asked of refs all day, and a whole run."""
    whole = platform()
    refs = whole.lake.refs
    keys = [("bench", "bronze", f"table_{number}") for number in range(100)]
    names = (f"bench-{os.urandom(8).hex()}" for _ in iter(int, 1))
    before = next(islice((each.hash for each in refs.history(MAIN)), REPEATS, None))

    def changed() -> str:
        branch = next(names)
        refs.create(branch, at=MAIN)
        content = refs.content(keys[0], at=branch)
        assert isinstance(content, IcebergTable)  # noqa: S101 - it was made above
        refs.commit(branch, [Put(keys[0], content)], message="again")
        return branch

    def merge() -> float:
        branch = changed()
        return seconds(lambda: refs.merge(branch))

    def run() -> float:
        with dg.DagsterInstance.get() as instance:
            ask = RunAsk(("bench.gold.one",))
            return seconds(lambda: runner.run(whole, ask, instance=instance))

    yield "make a branch", lambda: seconds(lambda: refs.create(next(names), at=MAIN))
    yield "branch, look and commit", lambda: seconds(changed)
    yield "merge", merge
    yield "100 tables at once", lambda: seconds(lambda: refs.contents(keys, at=MAIN))
    yield "every table there is", lambda: seconds(lambda: [*refs.entries(at=MAIN)])
    yield (
        "the newest 50 commits",
        lambda: seconds(lambda: [*refs.history(MAIN, limit=50)]),
    )
    yield (
        f"what others committed among {REPEATS}",
        lambda: seconds(lambda: [*outside.committed(whole, refs.head(MAIN), before)]),
    )
    yield "a whole run", run


if __name__ == "__main__":
    main()
