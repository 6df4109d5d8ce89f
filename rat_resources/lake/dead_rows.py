"""Dead rows: which rows of data files other files say are deleted, and a query's test for it.

Only position deletes of Parquet files are known here. DuckDB looks a row's place up in bits, one for
each row of a file that has dead ones: a join would cost five times as much, and lose the order of
the rows. The bits lie in variables of the connection; whoever asks for the same files once more reads
nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from duckdb import DuckDBPyConnection
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import FileScanTask

from rat_resources.hashes import hash_of
from rat_resources.lake.batch import keep_rows
from rat_resources.lake.locations import duckdb_path
from rat_resources.lake.sql import literal, quote

Tasks = Mapping[int, FileScanTask]

# DuckDB copies a constant for every 2 048 rows, so no bits are of more rows than this.
BLOCK_BITS = 18
BLOCK = 1 << BLOCK_BITS

_KNOWN = "rat_dead_rows"


@dataclass(frozen=True)
class DeadRows:
    """The dead rows of one data file: how many, and the blocks of it that have any."""

    name: str
    rows: int = 0
    blocks: Sequence[int] = ()
    digests: Sequence[
        int
    ] = ()  # what tells the dead rows of each block from any others

    def are_those_of(self, other: "DeadRows | None") -> bool:
        """Whether the same rows are dead."""
        return other is not None and (
            (self.blocks, self.digests) == (other.blocks, other.digests)
        )

    def test(self) -> "Steps":
        """Where in the file which test tells that a row is alive."""
        steps: list[tuple[int, str]] = [(0, "true")]
        for block in self.blocks:
            start = block << BLOCK_BITS
            bits = f"getvariable({literal(_variable(self.name, block))})"
            place = f"(file_row_number - {start})::INTEGER"
            steps.append((start, f"get_bit({bits}, {place}) = 0"))
            steps.append((start + BLOCK, "true"))
        # Of two steps at one place the later one holds.
        return sorted(dict(steps).items())


Steps = Sequence[tuple[int, str]]  # from which number on which expression holds


def is_by_position(file: DataFile) -> bool:
    """Whether a delete file names places in data files, in a file that DuckDB reads."""
    return (
        file.content == DataFileContent.POSITION_DELETES
        and file.file_format == FileFormat.PARQUET
    )


def dead_rows(connection: DuckDBPyConnection, tasks: Tasks) -> dict[int, DeadRows]:
    """The dead rows of those of *tasks* that have any; all their delete files are by position."""
    names = {n: _name(task) for n, task in tasks.items() if task.delete_files}
    if not names:
        return {}
    connection.execute(
        f"CREATE TEMP TABLE IF NOT EXISTS {_KNOWN} "
        "(name VARCHAR, block BIGINT, rows BIGINT, digest UBIGINT)"
    )
    known = _look_up(connection, names)
    missing = {n: tasks[n] for n, name in names.items() if name not in known}
    if missing:
        _find(connection, missing)
        known = _look_up(connection, names)
    found = {n: known[name] for n, name in names.items()}
    return {n: dead for n, dead in found.items() if dead.rows}


def _name(task: FileScanTask) -> str:
    deletes = sorted(file.file_path for file in task.delete_files)
    return hash_of("\n".join((task.file.file_path, *deletes)))


def _variable(name: str, block: int) -> str:
    return f"rat_dead_{name}_{block}"


def _look_up(
    connection: DuckDBPyConnection, names: Mapping[int, str]
) -> dict[str, DeadRows]:
    wanted = ", ".join(map(literal, names.values()))
    rows = connection.execute(
        f"SELECT name, sum(rows)::BIGINT, list(block ORDER BY block) FILTER (rows > 0), "
        f"list(digest ORDER BY block) FILTER (rows > 0) FROM {_KNOWN} WHERE name IN ({wanted}) GROUP BY name"
    ).fetchall()
    return {
        name: DeadRows(name, dead, blocks or (), digests or ())
        for name, dead, blocks, digests in rows
    }


def _find(connection: DuckDBPyConnection, tasks: Tasks) -> None:
    """Read the delete files of *tasks*, and keep what they say of these."""
    found = keep_rows(
        connection,
        f"SELECT file.name, dead.pos >> {BLOCK_BITS} AS block, "
        f"bitstring_agg((dead.pos & {BLOCK - 1})::INTEGER, 0, {BLOCK - 1}) AS bits "
        f"FROM ({_positions(tasks)}) AS dead JOIN ({_pairs(tasks)}) AS file "
        "ON dead.file_path = file.path AND dead.number = file.number "
        "WHERE dead.pos >= 0 AND dead.pos < file.rows GROUP BY ALL",
    )
    blocks = connection.execute(f"SELECT rowid, name, block FROM {found}").fetchall()
    for row, name, block in blocks:
        # As a parameter the bits would make DuckDB import pandas.
        connection.execute(
            f"SET VARIABLE {quote(_variable(name, block))} = "
            f"(SELECT bits FROM {found} WHERE rowid = {row})"
        )
    connection.execute(
        f"INSERT INTO {_KNOWN} SELECT name, block, bit_count(bits), hash(bits) FROM {found}"
    )
    names = ", ".join(f"({literal(_name(task))}, -1, 0, 0)" for task in tasks.values())
    connection.execute(f"INSERT INTO {_KNOWN} VALUES {names}")
    connection.execute(f"DROP TABLE {found}")


def _delete_files(tasks: Tasks) -> list[str]:
    return sorted({f.file_path for task in tasks.values() for f in task.delete_files})


def _positions(tasks: Tasks) -> str:
    """A query for what the delete files of *tasks* say, each row with its file's number."""
    paths = ", ".join(literal(duckdb_path(path)) for path in _delete_files(tasks))
    # Some writers keep the deleted row as well, in some of the files.
    return (
        "SELECT file_path, pos, file_index::BIGINT AS number "
        f"FROM read_parquet([{paths}], union_by_name = true, hive_partitioning = false)"
    )


def _pairs(tasks: Tasks) -> str:
    """A query for which delete file speaks of which data file."""
    numbers = {path: number for number, path in enumerate(_delete_files(tasks))}
    pairs = ", ".join(
        f"({literal(task.file.file_path)}, {numbers[deletes.file_path]}, "
        f"{literal(_name(task))}, {task.file.record_count})"
        for task in tasks.values()
        for deletes in task.delete_files
    )
    return f"SELECT * FROM (VALUES {pairs}) AS pair(path, number, name, rows)"


def alive(tasks: Tasks, dead: Mapping[int, DeadRows]) -> str:
    """The condition on file_index and file_row_number that a row of *tasks* is not dead."""
    steps = [
        (index, _within(dead[number]) if number in dead else "true")
        for index, number in enumerate(tasks)
    ]
    # A test of file_row_number alone would be made before the filters of a query, of every row.
    return choose([(-1, "true"), *steps], by="file_index::BIGINT")


def _within(dead: DeadRows) -> str:
    return choose(dead.test(), by="file_row_number")


def choose(steps: Steps, *, by: str) -> str:
    """The expression of the last of *steps* that starts at or below *by*.

    A tree, for a list of thousands would be gone through for every row.
    """
    steps = [
        step
        for place, step in enumerate(steps)
        if not place or step[1] != steps[place - 1][1]
    ]
    if len(steps) == 1:
        return steps[0][1]
    middle = len(steps) // 2
    low, high = (choose(half, by=by) for half in (steps[:middle], steps[middle:]))
    return f"CASE WHEN {by} < {steps[middle][0]} THEN {low} ELSE {high} END"
