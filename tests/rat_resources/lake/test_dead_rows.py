"""Rows that delete files name are not seen, whatever else is asked of a table."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from duckdb import DuckDBPyConnection
from pyarrow import orc
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import FileScanTask, Table
from pyiceberg.typedef import Record

from rat_resources.lake import reading
from rat_resources.lake.dead_rows import BLOCK, choose
from rat_resources.lake.reading import (
    FILE,
    POSITION,
    Tasks,
    count_alive,
    placed,
    select_rows,
)
from tests.rat_resources.lake.tables import (
    load,
    make_catalog,
    make_config,
    make_connection,
    write,
)

APPEND = make_config("append_only")


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return make_catalog(tmp_path)


@pytest.fixture
def connection() -> DuckDBPyConnection:
    return make_connection()


def fill(
    connection: DuckDBPyConnection, catalog: Catalog, *, files: int, rows: int = 4
) -> Table:
    """A table of files with the same number of rows, written in the order of id."""
    for number in range(files):
        start = number * rows
        query = f"SELECT id, id % 7 AS v FROM range({start}, {start + rows}) AS t(id)"
        write(connection, catalog, query, config=APPEND)
    return load(catalog)


def oldest_first(table: Table) -> list[FileScanTask]:
    return list(reversed(list(table.scan().plan_files())))


def delete_file(
    folder: Path,
    places: Iterable[tuple[FileScanTask | str, int]],
    *,
    file_format: FileFormat = FileFormat.PARQUET,
    **columns: list[str],
) -> DataFile:
    """A file that says that the rows at these places of these files are deleted."""
    named = [
        (task if isinstance(task, str) else task.file.file_path, pos)
        for task, pos in places
    ]
    path = folder / f"{uuid4()}.{file_format.value.lower()}"
    rows = {"file_path": [name for name, _ in named], "pos": [pos for _, pos in named]}
    write_table = orc.write_table if file_format is FileFormat.ORC else pq.write_table
    write_table(pa.table(rows | columns), str(path))
    return DataFile.from_args(
        content=DataFileContent.POSITION_DELETES,
        file_path=str(path),
        file_format=file_format,
        partition=Record(),
        record_count=len(named),
        file_size_in_bytes=path.stat().st_size,
    )


def numbered(
    tasks: Sequence[FileScanTask], deletes: dict[int, set[DataFile]] | None = None
) -> Tasks:
    """The tasks, some with delete files."""
    found = deletes or {}
    return {
        n: FileScanTask(task.file, found.get(n, set())) for n, task in enumerate(tasks)
    }


def select(
    connection: DuckDBPyConnection,
    table: Table,
    tasks: Tasks,
    *,
    positions: bool = False,
) -> str:
    return select_rows(
        connection,
        tasks,
        schema=table.schema(),
        metadata=table.metadata,
        io=table.io,
        positions=positions,
    )


def ids(connection: DuckDBPyConnection, query: str) -> list[int]:
    return [row[0] for row in connection.execute(query).fetchall()]


def steps_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What DuckDB did for a query, step by step."""
    facts = plan.get("extra_info", {})
    yield {
        "name": plan.get("operator_name", ""),
        "rows": plan.get("operator_cardinality"),
        "columns": facts.get("Projections"),
    }
    for child in plan["children"]:
        yield from steps_of(child)


def test_rows_stay_in_the_order_of_writing_whichever_files_have_dead_ones(
    connection: DuckDBPyConnection, catalog: Catalog, tmp_path: Path
) -> None:
    table = fill(connection, catalog, files=6)
    tasks = oldest_first(table)
    marked = {n: {delete_file(tmp_path, [(tasks[n], 1)])} for n in (1, 2, 4)}

    query = select(connection, table, numbered(tasks, marked))

    assert query.count("read_parquet") == 5
    assert ids(connection, query) == [n for n in range(24) if n not in {5, 9, 17}]


def test_rows_stay_in_order_when_files_of_both_kinds_take_turns(
    connection: DuckDBPyConnection,
    catalog: Catalog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "MOST_RUNS", 2)
    table = fill(connection, catalog, files=5)
    tasks = oldest_first(table)
    marked = {n: {delete_file(tmp_path, [(tasks[n], 3)])} for n in (1, 3)}

    query = select(connection, table, numbered(tasks, marked))

    assert query.count("read_parquet") == 1
    assert ids(connection, query) == [n for n in range(20) if n not in {7, 15}]


def test_rows_that_only_arrow_can_read_stay_in_order_too(
    connection: DuckDBPyConnection, catalog: Catalog, tmp_path: Path
) -> None:
    table = fill(connection, catalog, files=3)
    tasks = oldest_first(table)
    deletes = delete_file(tmp_path, [(tasks[1], 0)], file_format=FileFormat.ORC)
    marked = numbered(tasks, {1: {deletes}})

    query = select(connection, table, marked)

    direct = placed(connection, marked, metadata=table.metadata, io=table.io)
    assert direct.keys() == {0, 2}
    assert ids(connection, query) == [n for n in range(12) if n != 4]


def test_a_delete_file_may_speak_of_others_and_a_file_may_have_several(
    connection: DuckDBPyConnection, catalog: Catalog, tmp_path: Path
) -> None:
    table = fill(connection, catalog, files=2)
    first, second = oldest_first(table)
    both = delete_file(tmp_path, [("elsewhere", 0), (first, 0), (second, 3)])
    again = delete_file(tmp_path, [(first, 0), (first, 2)], row=["x", "y"])
    never = delete_file(tmp_path, [(first, 4), (first, -1), (second, 0)])

    query = select(
        connection,
        table,
        numbered([first, second], {0: {both, again, never}, 1: {both}}),
    )

    assert ids(connection, query) == [1, 3, 4, 5, 6]


def test_a_file_whose_rows_are_all_dead_has_none(
    connection: DuckDBPyConnection, catalog: Catalog, tmp_path: Path
) -> None:
    table = fill(connection, catalog, files=1)
    (task,) = oldest_first(table)
    deletes = delete_file(tmp_path, [(task, n) for n in range(4)])

    query = select(connection, table, numbered([task], {0: {deletes}}))

    assert ids(connection, query) == []


def test_rows_are_dead_in_every_block_of_a_large_file(
    connection: DuckDBPyConnection, catalog: Catalog, tmp_path: Path
) -> None:
    rows = 3 * BLOCK + 5
    table = fill(connection, catalog, files=1, rows=rows)
    (task,) = oldest_first(table)
    dead = [0, BLOCK - 1, 2 * BLOCK, 3 * BLOCK - 1, 3 * BLOCK, rows - 1]
    deletes = delete_file(tmp_path, [(task, place) for place in dead])

    query = select(connection, table, numbered([task], {0: {deletes}}))

    whole = select(connection, table, numbered([task]), positions=True)
    gone = f"SELECT {POSITION} FROM ({whole}) ANTI JOIN ({query}) USING (id) ORDER BY 1"
    assert ids(connection, gone) == dead


def test_a_row_says_its_place_though_rows_before_it_are_dead(
    connection: DuckDBPyConnection, catalog: Catalog, tmp_path: Path
) -> None:
    table = fill(connection, catalog, files=4)
    tasks = oldest_first(table)
    marked = {n: {delete_file(tmp_path, [(tasks[n], 1)])} for n in (0, 2, 3)}
    some = {n: t for n, t in numbered(tasks, marked).items() if n != 1}

    query = select(connection, table, some, positions=True)

    places = f"SELECT {FILE}, {POSITION} FROM ({query}) WHERE id IN (2, 10, 12)"
    assert connection.execute(places).fetchall() == [(0, 2), (2, 2), (3, 0)]


def test_delete_files_are_read_once_for_a_connection(
    connection: DuckDBPyConnection, catalog: Catalog, tmp_path: Path
) -> None:
    table = fill(connection, catalog, files=1)
    (task,) = oldest_first(table)
    deletes = delete_file(tmp_path, [(task, 1)])
    tasks = numbered([task], {0: {deletes}})
    select(connection, table, tasks)
    Path(deletes.file_path).unlink()

    query = select(connection, table, tasks)

    assert ids(connection, query) == [0, 2, 3]


def test_filters_and_columns_reach_the_files_that_have_dead_rows(
    connection: DuckDBPyConnection, catalog: Catalog, tmp_path: Path
) -> None:
    table = fill(connection, catalog, files=1, rows=300_000)
    (task,) = oldest_first(table)
    deletes = delete_file(tmp_path, [(task, 299_998)])
    query = select(connection, table, numbered([task], {0: {deletes}}))
    asked = f"SELECT id FROM ({query}) WHERE id >= 299997"

    ((_, plan),) = connection.execute(
        f"EXPLAIN (ANALYZE, FORMAT json) {asked}"
    ).fetchall()

    # The plan need not say the filter: DuckDB 1.5 tells it only of the first so many of the columns
    # that are read as the file has columns, and the row's place is read before them.
    (scan,) = (
        step for step in steps_of(json.loads(plan)) if "READ_PARQUET" in step["name"]
    )
    assert scan["columns"] == "c1"
    assert scan["rows"] == 3
    assert ids(connection, asked) == [299_997, 299_999]


def test_a_plan_shows_no_bits(
    connection: DuckDBPyConnection, catalog: Catalog, tmp_path: Path
) -> None:
    table = fill(connection, catalog, files=1)
    (task,) = oldest_first(table)
    deletes = delete_file(tmp_path, [(task, 1)])
    query = select(connection, table, numbered([task], {0: {deletes}}))

    ((_, plan),) = connection.execute(
        f"EXPLAIN SELECT id FROM ({query}) WHERE id > v * 2"
    ).fetchall()

    assert "is_alive" in plan
    assert len(plan) < 10_000


def test_rows_are_counted_without_those_that_are_dead(
    connection: DuckDBPyConnection, catalog: Catalog, tmp_path: Path
) -> None:
    table = fill(connection, catalog, files=4)
    tasks = oldest_first(table)
    both = delete_file(tmp_path, [(tasks[0], 1), (tasks[1], 2), ("elsewhere", 3)])
    again = delete_file(tmp_path, [(tasks[0], 1), (tasks[0], 3)])
    other = delete_file(tmp_path, [(tasks[2], 0)], file_format=FileFormat.ORC)
    marked = numbered(tasks, {0: {both, again}, 1: {both}, 2: {other}})

    assert count_alive(connection, marked, table=table) == 16 - 2 - 1 - 1


@pytest.mark.parametrize("places", [[0], [0, 1], [0, 3, 4, 9], list(range(0, 40, 3))])
def test_the_step_at_or_below_a_number_is_chosen(
    connection: DuckDBPyConnection, places: list[int]
) -> None:
    query = choose([(place, str(place)) for place in places], by="n")

    found = connection.execute(f"SELECT n, {query} FROM range(40) AS t(n)").fetchall()

    assert found == [(n, max(p for p in places if p <= n)) for n in range(40)]
