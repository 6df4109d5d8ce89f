"""Reading: one snapshot of an Iceberg table as rows in DuckDB.

PyIceberg plans which files belong to the snapshot, DuckDB reads them by field id. Where they are
changed is `strategies`; which columns they hold is `evolution`.
"""

from collections.abc import Mapping
from itertools import chain, groupby
from operator import itemgetter
from uuid import uuid4

import duckdb
from duckdb import DuckDBPyConnection
from pyarrow import RecordBatchReader
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import ArrowScan, _read_all_delete_files
from pyiceberg.schema import Schema
from pyiceberg.table import FileScanTask, Table
from pyiceberg.table.metadata import TableMetadata

from rat_resources.lake.committing import ROWS
from rat_resources.lake.dead_rows import (
    DeadRows,
    alive,
    choose,
    dead_rows,
    is_by_position,
)
from rat_resources.lake.equality import (
    equality_deletes,
    is_deleted,
    refusal,
    wide_enough,
    without_them,
)
from rat_resources.lake.locations import (
    duckdb_path,
    is_local,
    is_reachable,
    read_footer,
)
from rat_resources.lake.planning import plan
from rat_resources.lake.sql import literal, quote
from rat_resources.lake.types import sql_type

FILE = "__rat_file"
POSITION = "__rat_position"

# Of files that are read alike, one after the other; each is a query of its own.
MOST_RUNS = 8

Tasks = Mapping[int, FileScanTask]


def register_table(
    connection: DuckDBPyConnection,
    table: Table,
    *,
    view: str,
    snapshot_id: int | None = None,
    within: BooleanExpression | None = None,
) -> None:
    """Make *view* show the rows of *table* as they are in the snapshot, or in the current one.

    *within*: of the files alone that may hold rows for which this holds.
    """
    tasks = plan(table.metadata, io=table.io, snapshot_id=snapshot_id, where=within)
    rows = select_rows(
        connection,
        dict(enumerate(tasks)),
        schema=table.scan(snapshot_id=snapshot_id).projection(),
        metadata=table.metadata,
        io=table.io,
    )
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {quote(view)} AS {rows}")


def row_count(table: Table, *, snapshot_id: int | None = None) -> int:
    """How many rows the snapshot of *table* has; none of them is read.

    Our own snapshots say it. Of others the delete files are read, where there are any.
    """
    snapshot = (
        table.current_snapshot()
        if snapshot_id is None
        else table.snapshot_by_id(snapshot_id)
    )
    if snapshot is None:
        return 0
    if snapshot.summary is not None:
        told = snapshot.summary[ROWS]
        if told is None and snapshot.summary["total-delete-files"] == "0":
            told = snapshot.summary["total-records"]
        if told is not None:
            return int(told)
    tasks = plan(table.metadata, io=table.io, snapshot_id=snapshot_id)
    if not any(task.delete_files for task in tasks):
        return sum(task.file.record_count for task in tasks)
    with duckdb.connect() as connection:
        return count_alive(connection, dict(enumerate(tasks)), table=table)


def count_alive(connection: DuckDBPyConnection, tasks: Tasks, *, table: Table) -> int:
    """How many rows of *tasks* are not deleted; only files that DuckDB cannot read are read."""
    direct = placed(connection, tasks, metadata=table.metadata, io=table.io)
    known = {n: t for n, t in tasks.items() if n in direct or not t.delete_files}
    dead = dead_rows(connection, direct)
    alive = sum(task.file.record_count for task in known.values())
    alive -= sum(each.rows for each in dead.values())
    rows = select_rows(
        connection,
        {n: t for n, t in tasks.items() if n not in known},
        schema=Schema(*table.schema().fields[:1]),
        metadata=table.metadata,
        io=table.io,
    )
    ((others,),) = connection.execute(f"SELECT count(*) FROM ({rows})").fetchall()
    return alive + int(others)


def select_rows(
    connection: DuckDBPyConnection,
    tasks: Tasks,
    *,
    schema: Schema,
    metadata: TableMetadata,
    io: FileIO,
    positions: bool = False,
) -> str:
    """A query for the rows of *tasks* in the columns of *schema*.

    With *positions* each row also says where it is: FILE is the number of its task, POSITION its
    place in that file; a row has the same ones in every query.
    """
    direct = placed(connection, tasks, metadata=metadata, io=io)
    others = {n: t for n, t in tasks.items() if n not in direct}
    dead = dead_rows(connection, direct)
    copied = (
        _copy_through_arrow(connection, others, schema=schema, metadata=metadata, io=io)
        if others
        else ""
    )
    queries = [
        _select_copied(copied, run, schema=schema, positions=positions)
        if run.keys() <= others.keys()
        else _select_direct(
            run, tests=_is_alive(run, dead), schema=schema, positions=positions
        )
        for run in _runs(tasks, others=others, dead=dead)
    ]
    return " UNION ALL ".join(queries) or _select_nothing(schema, positions=positions)


def select_lost(
    connection: DuckDBPyConnection,
    before: Tasks,
    after: Tasks,
    *,
    schema: Schema,
) -> str:
    """A query for the rows of files that are dead in *after* and were not in *before*.

    Both are `placed`, and have the same files under the same numbers.
    """
    then, now = dead_rows(connection, before), dead_rows(connection, after)
    files = {
        number: task
        for number, task in after.items()
        if number in now and not now[number].are_those_of(then.get(number))
    }
    if not files:
        return _select_nothing(schema, positions=False)
    return _select_direct(
        files,
        tests=_is_alive(files, then) | {"is_lost": f"NOT ({alive(files, now)})"},
        schema=schema,
        positions=False,
    )


def _runs(tasks: Tasks, *, others: Tasks, dead: Mapping[int, DeadRows]) -> list[Tasks]:
    """*tasks* in their order, divided where the way changes in which they are read."""
    ways = [
        [(number in others, number in dead) for number in tasks],
        # Files without dead rows may be read as those with are.
        [(number in others, False) for number in tasks],
    ]
    found: list[Tasks] = []
    for way in ways:
        each = zip(way, tasks.items(), strict=True)
        groups = groupby(each, key=itemgetter(0))
        found = [dict(task for _, task in group) for _, group in groups]
        if len(found) <= MOST_RUNS:
            break
    return found


def placed(
    connection: DuckDBPyConnection,
    tasks: Tasks,
    *,
    metadata: TableMetadata,
    io: FileIO,
) -> Tasks:
    """Those of *tasks* where POSITION is the place in the file that a position delete speaks of."""
    mapped = metadata.name_mapping() is not None
    return {
        n: t
        for n, t in let_in(connection, tasks).items()
        if _is_direct(t, io=io, mapped=mapped)
    }


def let_in(connection: DuckDBPyConnection, tasks: Tasks) -> Tasks:
    """Those of *tasks* whose files DuckDB itself can reach, as it may from now on."""
    away = {n: t for n, t in tasks.items() if not is_local(t.file.file_path)}
    for task in away.values():
        if not is_reachable(connection, task.file.file_path):
            return {n: t for n, t in tasks.items() if n not in away}
        break
    return tasks


def _is_direct(task: FileScanTask, *, io: FileIO, mapped: bool) -> bool:
    """Whether DuckDB may read the file by itself: columns known by id, and so are its dead rows."""
    if not all(map(is_by_position, task.delete_files)):
        return False
    # Only tables that have adopted foreign files carry a name mapping.
    return not mapped or _has_field_ids(task, io=io)


def _has_field_ids(task: FileScanTask, *, io: FileIO) -> bool:
    footer, _ = read_footer(task.file.file_path, io=io)
    fields = footer.schema.to_arrow_schema()
    return all(b"PARQUET:field_id" in (field.metadata or {}) for field in fields)


def _select_direct(
    tasks: Tasks, *, tests: dict[str, str], schema: Schema, positions: bool
) -> str:
    names = {field.name: _alias(field.field_id) for field in schema.fields}
    places = {FILE: _number(tasks), POSITION: "file_row_number"} if positions else {}
    paths = ", ".join(
        literal(duckdb_path(task.file.file_path)) for task in tasks.values()
    )
    # With a schema DuckDB takes files for empty, and would build its joins from them.
    count = max(1, sum(task.file.record_count for task in tasks.values()))
    files = (
        f"read_parquet([{paths}], schema = {_schema_map(schema)}, "
        f"explicit_cardinality = {count}, hive_partitioning = false)"
    )
    if not tests:
        return f"SELECT {_called(names | places)} FROM {files}"
    # A plan shows a test that has a name by its name; written out it would be all bits, and with
    # many files take DuckDB a minute to write.
    inner = {name: name for name in names.values()} | places | tests
    outer = names | {name: name for name in places}
    return (
        f"SELECT {_called(outer)} FROM (SELECT {_called(inner)} FROM {files}) "
        f"WHERE {' AND '.join(tests)}"
    )


def _called(columns: Mapping[str, str]) -> str:
    """Expressions, each by its name."""
    return ", ".join(f"{what} AS {quote(name)}" for name, what in columns.items())


def _is_alive(tasks: Tasks, dead: Mapping[int, DeadRows]) -> dict[str, str]:
    """The test that leaves out the dead rows of *tasks*, if there are any."""
    return {"is_alive": alive(tasks, dead)} if tasks.keys() & dead.keys() else {}


def _number(tasks: Tasks) -> str:
    """What numbers a row's task, by the place of its file among the files that are read."""
    return choose(
        [
            (place, f"file_index::BIGINT + {number - place}")
            for place, number in enumerate(tasks)
        ],
        by="file_index",
    )


def _alias(field_id: int) -> str:
    # Virtual columns such as file_row_number stay reachable whatever the table's columns are called.
    return f"c{field_id}"


def _schema_map(schema: Schema) -> str:
    entries = (
        f"{field.field_id}: {{name: {literal(_alias(field.field_id))}, "
        f"type: {literal(sql_type(field.field_type))}, default_value: NULL}}"
        for field in schema.fields
    )
    return f"MAP {{{', '.join(entries)}}}"


def _copy_through_arrow(
    connection: DuckDBPyConnection,
    tasks: Tasks,
    *,
    schema: Schema,
    metadata: TableMetadata,
    io: FileIO,
) -> str:
    """The temp table that the rows of *tasks* were copied into, file by file, spilling if need be."""
    name = f"rat_arrow_{uuid4().hex}"
    columns = [f"{quote(f.name)} {sql_type(f.field_type)}" for f in schema.fields]
    columns += [f"{FILE} BIGINT", f"{POSITION} BIGINT"]
    connection.execute(f"CREATE TEMP TABLE {name} ({', '.join(columns)})")
    scan = ArrowScan(metadata, io, schema, AlwaysTrue())
    for number, task in tasks.items():
        if equality_deletes(task):
            rows = _select_unequal(
                connection, {number: task}, schema=schema, metadata=metadata, io=io
            )
            connection.execute(f"INSERT INTO {name} {rows}")
            continue
        # `to_record_batches` would hold all of the file before it gives the first batch.
        deletes = _read_all_delete_files(io, [task])
        batches = scan._record_batches_from_scan_tasks_and_deletes([task], deletes)  # noqa: SLF001
        first = next(batches, None)
        if first is None:
            continue
        reader = RecordBatchReader.from_batches(first.schema, chain([first], batches))
        connection.register(f"{name}_reader", reader)
        connection.execute(
            f"INSERT INTO {name} SELECT *, {number}, row_number() OVER () "
            f"FROM {name}_reader"
        )
        connection.unregister(f"{name}_reader")
    return name


def _select_unequal(
    connection: DuckDBPyConnection,
    tasks: Tasks,
    *,
    schema: Schema,
    metadata: TableMetadata,
    io: FileIO,
) -> str:
    """A query for the rows of one task that are not deleted by their values, and their places."""
    by_place = {number: without_them(task) for number, task in tasks.items()}
    if placed(connection, by_place, metadata=metadata, io=io).keys() != tasks.keys():
        raise refusal("its files have rows deleted by value, and no field ids")
    deletes = [file for task in tasks.values() for file in equality_deletes(task)]
    wide = wide_enough(schema, deletes, metadata=metadata)
    rows = select_rows(
        connection, by_place, schema=wide, metadata=metadata, io=io, positions=True
    )
    columns = ", ".join(
        f"kept.{quote(name)}"
        for name in (*(f.name for f in schema.fields), FILE, POSITION)
    )
    return (
        f"SELECT {columns} FROM ({rows}) AS kept "
        f"WHERE NOT ({is_deleted(deletes, schema=wide)})"
    )


def _select_copied(name: str, tasks: Tasks, *, schema: Schema, positions: bool) -> str:
    columns = [quote(field.name) for field in schema.fields]
    if positions:
        columns += [FILE, POSITION]
    numbers = ", ".join(map(str, tasks))
    return f"SELECT {', '.join(columns)} FROM {name} WHERE {FILE} IN ({numbers})"


def _select_nothing(schema: Schema, *, positions: bool) -> str:
    columns = [
        f"CAST(NULL AS {sql_type(field.field_type)}) AS {quote(field.name)}"
        for field in schema.fields
    ]
    if positions:
        columns += [f"0::BIGINT AS {FILE}", f"0::BIGINT AS {POSITION}"]
    return f"SELECT {', '.join(columns)} WHERE false"
