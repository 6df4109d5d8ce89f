"""Strategies: what a run's batch does to the rows that a table already has.

    full_refresh   the batch is the table
    append_only    the batch is added
    incremental    one row a key: the batch's row takes the place of the table's
    delete_insert  all rows of a key: the batch's rows take the place of the table's
    snapshot       all rows of a value of partition_column, likewise
    scd2           as incremental, but the old row stays, closed

The first run of each, and a full refresh, makes the table of the batch alone (with one row a key
under incremental and scd2). NULL is a key like any other. Only files that hold affected rows are
rewritten (`merging`), and all of it, new columns too, is one commit (`target`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Literal
from uuid import uuid4

import duckdb
from duckdb import DuckDBPyConnection
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import TimestamptzType

from rat_resources.errors import QueryError, SchemaChangeError, StoreError
from rat_resources.lake.batch import (
    Batch,
    Bound,
    bind_query,
    count_rows,
    run_query,
)
from rat_resources.lake.choosing import WriteMode
from rat_resources.lake.complaints import (
    complaint,
    first_line,
    is_disk_full,
    is_outage,
)
from rat_resources.lake.dying import Settled
from rat_resources.lake.evolution import (
    Evolution,
    OnSchemaChange,
    evolve,
    first_schema,
    replace_columns,
)
from rat_resources.lake.incoming import ROW, Incoming
from rat_resources.lake.merging import Change, close_and_open, replace_keys, upsert
from rat_resources.lake.partitioning import PartitionField
from rat_resources.lake.positions import Marks
from rat_resources.lake.reading import row_count
from rat_resources.lake.replacing import Scope, changed_values, replace_scope
from rat_resources.lake.sorting import SortField, key_order, sorted_by
from rat_resources.lake.sql import literal, name_list, quote
from rat_resources.lake.streaming import (
    NeedsRowsError,
    one_a_key,
    rows_of,
    stream_rows,
)
from rat_resources.lake.target import Target, change_target, create_target, find_table
from rat_resources.lake.types import Column, sql_type
from rat_resources.lake.writing import Written, write_files
from rat_resources.names import TableName, nearest


class MergeStrategy(StrEnum):
    """The six ways to bring a batch into a table."""

    FULL_REFRESH = "full_refresh"
    APPEND_ONLY = "append_only"
    INCREMENTAL = "incremental"
    DELETE_INSERT = "delete_insert"
    SNAPSHOT = "snapshot"
    SCD2 = "scd2"


_KEYLESS = (MergeStrategy.FULL_REFRESH, MergeStrategy.APPEND_ONLY)
_ONE_ROW_A_KEY = (MergeStrategy.INCREMENTAL, MergeStrategy.SCD2)


@dataclass(frozen=True)
class WriteConfig:
    """How a pipeline writes its table."""

    merge_strategy: MergeStrategy = MergeStrategy.FULL_REFRESH
    unique_key: tuple[str, ...] = ()
    watermark_column: str | None = None
    partition_column: str | None = None
    partition_by: tuple[PartitionField, ...] = ()
    sort_by: tuple[SortField, ...] = ()  # (): by the keys
    file_size: int | None = None  # bytes, near which a file ends
    scd_valid_from: str = "valid_from"
    scd_valid_to: str = "valid_to"
    scd_close_missing: bool = False
    on_empty: Literal["publish", "keep", "fail"] = "publish"
    on_schema_change: OnSchemaChange = "evolve"
    write_mode: WriteMode = "auto"

    @property
    def is_keyless(self) -> bool:
        """Whether no row of the table is looked for."""
        return self.merge_strategy in _KEYLESS

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns whose values say which rows of the table a row of the batch stands for."""
        if self.is_keyless:
            return ()
        if self.merge_strategy == MergeStrategy.SNAPSHOT:
            return (self.partition_column,) if self.partition_column else ()
        return self.unique_key

    @property
    def parts(self) -> tuple[str, ...]:
        """The columns by which the table is divided, and its rows are known."""
        partition = () if self.partition_column is None else (self.partition_column,)
        return (*self.keys, *partition, *(each.column for each in self.partition_by))

    @property
    def scd_columns(self) -> tuple[str, ...]:
        """The columns that scd2 writes itself."""
        if self.merge_strategy != MergeStrategy.SCD2:
            return ()
        return (self.scd_valid_from, self.scd_valid_to)


def apply(
    connection: DuckDBPyConnection,
    *,
    query: str,
    catalog: Catalog,
    table_name: TableName,
    config: WriteConfig,
    attempt_time: datetime,
    full_refresh: bool = False,
    scope: Scope | None = None,
    inspect: Callable[[Batch], None] | None = None,
) -> Written:
    """Run *query* once and bring its rows into the table by the strategy, in one commit or none.

    A missing table is made, even for a batch without rows. *inspect* sees the batch before. With a
    *scope* the rows take the place of those in it, whatever the strategy.
    """
    bound = bind_query(connection, query)
    with _translated_errors():
        _check_columns(config, bound.columns)
        table = find_table(catalog, table_name)
        starts = table is None or full_refresh
        if inspect is None and scope is None and (starts or config.is_keyless):
            with suppress(NeedsRowsError):
                return _stream(
                    connection,
                    bound,
                    table=table,
                    catalog=catalog,
                    table_name=table_name,
                    config=config,
                    attempt_time=attempt_time.astimezone(UTC),
                    full_refresh=full_refresh,
                )
    with run_query(connection, bound) as batch, _translated_errors():
        if inspect is not None:
            inspect(batch)
        if scope is None:
            _check_rows(config, batch.rows)
            if table is not None and not batch.rows and config.on_empty == "keep":
                return _state(table)
        evolved = follow_columns(
            table,
            batch.columns,
            config=config,
            full_refresh=full_refresh,
            is_all_null=partial(_is_all_null, connection, batch),
        )
        _check_ignored(config, evolved.schema)
        target = _target(
            table, catalog, table_name, schema=evolved.schema, config=config
        )
        with _incoming(
            connection, batch, schema=target.schema, config=config
        ) as incoming:
            change = _change(
                connection,
                target,
                incoming,
                config=config,
                attempt_time=attempt_time.astimezone(UTC),
                full_refresh=full_refresh,
                scope=scope,
            )
            return _write(
                connection,
                target,
                change=change,
                evolved=evolved,
                config=config,
                told_by=(*(scope.columns if scope else ()), *config.parts),
            )


def _target(
    table: Table | None,
    catalog: Catalog,
    table_name: TableName,
    *,
    schema: Schema,
    config: WriteConfig,
) -> Target:
    """The table with the columns of *schema*, there or not yet."""
    order = config.sort_by or key_order(config.keys, schema=schema)
    if table is None:
        return create_target(
            catalog,
            table_name,
            schema=schema,
            partition_by=config.partition_by,
            sort_by=order,
            file_size=config.file_size,
        )
    return change_target(
        table,
        schema=schema,
        partition_by=config.partition_by,
        sort_by=order,
        file_size=config.file_size,
    )


def _stream(
    connection: DuckDBPyConnection,
    bound: Bound,
    *,
    table: Table | None,
    catalog: Catalog,
    table_name: TableName,
    config: WriteConfig,
    attempt_time: datetime,
    full_refresh: bool,
) -> Written:
    """Write the rows as they come; NeedsRowsError where somebody must look at them before."""
    try:
        evolved = follow_columns(
            table,
            bound.columns,
            config=config,
            full_refresh=full_refresh,
            is_all_null=_need_rows,
        )
        _check_ignored(config, evolved.schema)
    except SchemaChangeError as error:
        # What does not fit the table is no matter where no row comes.
        if config.on_empty == "keep":
            raise NeedsRowsError from error
        raise
    target = _target(table, catalog, table_name, schema=evolved.schema, config=config)
    rows = rows_of(bound, schema=target.schema, extra=_opened(config, attempt_time))
    if config.merge_strategy in _ONE_ROW_A_KEY:
        rows = one_a_key(
            rows,
            schema=target.schema,
            keys=config.keys,
            watermark=config.watermark_column,
        )
    added = stream_rows(connection, rows, bound=bound, target=target)
    count = sum(file.record_count for file in added)
    _check_rows(config, count)
    if table is not None and not count and config.on_empty == "keep":
        return _state(table)
    appends = config.merge_strategy == MergeStrategy.APPEND_ONLY and not full_refresh
    change = (
        Change(coming=count, inserted=count)
        if appends and table is not None
        else _start_anew(target, inserted=count)
    )
    return _commit(target, added, change=change, evolved=evolved)


def _need_rows(column: str) -> bool:
    raise NeedsRowsError(column)


def _opened(config: WriteConfig, now: datetime) -> str:
    """The columns that scd2 writes itself, of rows that nobody has closed."""
    if not config.scd_columns:
        return ""
    valid_from, valid_to = map(quote, config.scd_columns)
    opened = f"TIMESTAMPTZ {literal(now.isoformat())}"
    return f", {opened} AS {valid_from}, CAST(NULL AS TIMESTAMPTZ) AS {valid_to}"


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Say what DuckDB found wrong with the rows in our own words."""
    try:
        yield
    except duckdb.InterruptException:
        raise
    except duckdb.ConversionException as error:
        raise QueryError(
            f"a value does not fit its column's type: {first_line(error)}",
            fix="cast or filter it in the query",
        ) from error
    except (duckdb.IOException, OSError) as error:
        if is_disk_full(error) or is_outage(error):
            raise complaint(error) from error
        raise StoreError(
            f"the warehouse cannot be read or written: {first_line(error)}",
            fix="look at the place that it names",
        ) from error
    except duckdb.Error as error:
        raise complaint(error) from error


def _check_columns(config: WriteConfig, columns: Sequence[Column]) -> None:
    names = [column.name for column in columns]
    for name in _needed_columns(config):
        if name not in names:
            guess = nearest(name, names)
            raise SchemaChangeError(
                f"the query returns no column {name!r}, "
                f"which {config.merge_strategy} needs",
                fix=f"did you mean {guess!r}?" if guess else "add it to the query",
            )
    for name in config.scd_columns:
        if name.casefold() in map(str.casefold, names):
            raise SchemaChangeError(
                f"the query returns {name!r}, a column that scd2 writes itself",
                fix="rename it in the query, or set scd_valid_from and scd_valid_to",
            )


def _check_ignored(config: WriteConfig, schema: Schema) -> None:
    """SchemaChangeError where `on_schema_change: ignore` leaves out what the strategy needs."""
    names = {field.name.casefold() for field in schema.fields}
    for name in (*_needed_columns(config), *config.scd_columns):
        if name.casefold() not in names:
            raise SchemaChangeError(
                f"the table has no column {name!r}, which {config.merge_strategy} needs, "
                "and on_schema_change is ignore",
                fix="set on_schema_change: evolve, or run once with --full-refresh",
            )


def _needed_columns(config: WriteConfig) -> tuple[str, ...]:
    strategy = config.merge_strategy
    if strategy not in _KEYLESS and not config.keys:
        missing = (
            "partition_column" if strategy == MergeStrategy.SNAPSHOT else "unique_key"
        )
        raise QueryError(f"{strategy} needs {missing}", fix=f"set {missing}")
    if strategy in _ONE_ROW_A_KEY and config.watermark_column:
        return (*config.keys, config.watermark_column)
    return config.keys


def _check_rows(config: WriteConfig, rows: int) -> None:
    if not rows and config.on_empty == "fail":
        raise QueryError(
            "the query returned no rows and on_empty is fail",
            fix="look at what it reads, or set on_empty to publish or keep",
        )


def follow_columns(
    table: Table | None,
    returned: Sequence[Column],
    *,
    config: WriteConfig,
    full_refresh: bool,
    is_all_null: Callable[[str], bool],
) -> Evolution:
    """The columns that a table gets when a query that *returned* these is written to it."""
    times = [Column(name, TimestamptzType()) for name in config.scd_columns]
    columns = [*returned, *times]
    if table is None:
        return first_schema(columns)
    # DuckDB tells no upper from lower case, so the table's spelling stays.
    known = {f.name.casefold(): f.name for f in table.schema().fields}
    columns = [Column(known.get(c.name.casefold(), c.name), c.type) for c in columns]
    last_id = table.metadata.last_column_id
    takes_all = config.merge_strategy == MergeStrategy.FULL_REFRESH and (
        config.on_schema_change == "evolve"
    )
    if full_refresh or takes_all:
        return replace_columns(table.schema(), columns, last_column_id=last_id)
    return evolve(
        table.schema(),
        columns,
        last_column_id=last_id,
        policy=config.on_schema_change,
        is_all_null=is_all_null,
    )


def _is_all_null(connection: DuckDBPyConnection, batch: Batch, column: str) -> bool:
    found = f"(SELECT 1 FROM {batch.table} WHERE {quote(column)} IS NOT NULL LIMIT 1)"
    return count_rows(connection, found) == 0


@contextmanager
def _incoming(
    connection: DuckDBPyConnection, batch: Batch, *, schema: Schema, config: WriteConfig
) -> Iterator[Incoming]:
    """The batch in the table's columns and types, with one row a key where that is wanted."""
    rows = _cast_batch(batch, schema=schema, config=config)
    if config.merge_strategy in _ONE_ROW_A_KEY:
        newest = [f"{ROW} DESC"]
        if config.watermark_column:
            newest.insert(0, f"{quote(config.watermark_column)} DESC NULLS LAST")
        rows += (
            f" QUALIFY row_number() OVER (PARTITION BY {name_list(config.keys)} "
            f"ORDER BY {', '.join(newest)}) = 1"
        )
    name = f"rat_incoming_{uuid4().hex}"
    connection.execute(f"CREATE TEMP TABLE {name} AS {rows}")
    try:
        yield Incoming(
            name,
            columns=tuple(
                field.name
                for field in schema.fields
                if field.name not in config.scd_columns
            ),
            keys=tuple(
                schema.find_field(key, case_sensitive=False).name for key in config.keys
            ),
            rows=count_rows(connection, name),
        )
    finally:
        connection.execute(f"DROP TABLE {name}")


def _cast_batch(batch: Batch, *, schema: Schema, config: WriteConfig) -> str:
    returned = {column.name.casefold() for column in batch.columns}
    columns = [
        f"CAST({quote(f.name) if f.name.casefold() in returned else 'NULL'} "
        f"AS {sql_type(f.field_type)}) AS {quote(f.name)}"
        for f in schema.fields
        if f.name not in config.scd_columns
    ]
    # The position in the batch settles which of two rows is the last.
    return f"SELECT * FROM (SELECT {', '.join(columns)}, rowid AS {ROW} FROM {batch.table})"


def _change(
    connection: DuckDBPyConnection,
    target: Target,
    incoming: Incoming,
    *,
    config: WriteConfig,
    attempt_time: datetime,
    full_refresh: bool,
    scope: Scope | None,
) -> Change:
    strategy = config.merge_strategy
    if scope is not None and target.table is not None:
        return replace_scope(connection, target, incoming, scope=scope)
    if target.table is None or full_refresh or strategy == MergeStrategy.FULL_REFRESH:
        extra = _opened(config, attempt_time)
        query = incoming.select(extra=extra)
        return _start_anew(target, inserted=incoming.rows, query=query)
    match strategy:
        case MergeStrategy.APPEND_ONLY:
            return Change(
                incoming.select(), coming=incoming.rows, inserted=incoming.rows
            )
        case MergeStrategy.INCREMENTAL:
            return upsert(connection, target, incoming)
        case MergeStrategy.SCD2:
            return close_and_open(
                connection,
                target,
                incoming,
                valid_from=config.scd_valid_from,
                valid_to=config.scd_valid_to,
                attempt_time=attempt_time,
                close_missing=config.scd_close_missing,
            )
        case _:
            return replace_keys(connection, target, incoming)


def _start_anew(target: Target, *, inserted: int, query: str | None = None) -> Change:
    removed = tuple(task.file for task in target.plan().values())
    return Change(
        query,
        coming=inserted,
        removed=removed,
        inserted=inserted,
        deleted=row_count(target.table) if target.table is not None else 0,
        is_anew=target.table is not None,
    )


def _write(
    connection: DuckDBPyConnection,
    target: Target,
    *,
    change: Change,
    evolved: Evolution,
    config: WriteConfig,
    told_by: Sequence[str],
) -> Written:
    values = (
        None
        if change.changed is None
        else changed_values(connection, change.changed, columns=told_by)
    )
    settled = change.dying.settle(config.write_mode) if change.dying else None
    queries = (settled.survivors if settled else None, change.query)
    rows = " UNION ALL BY NAME ".join(f"({query})" for query in queries if query)
    is_sorted = bool(sorted_by(target.metadata))
    if rows and config.keys and settled is not None and not is_sorted:
        keys = name_list(config.keys)
        rows = f"FROM ({rows}) ORDER BY {keys}, {ROW} NULLS FIRST"
    added = (
        write_files(connection, rows, metadata=target.metadata, io=target.io)
        if rows
        else []
    )
    written = _commit(target, added, change=change, evolved=evolved, settled=settled)
    change.forget(connection)
    return replace(written, changed_values=values) if written.changed else written


def _commit(
    target: Target,
    added: Sequence[DataFile],
    *,
    change: Change,
    evolved: Evolution,
    settled: Settled | None = None,
) -> Written:
    marks = settled.mark() if settled else Marks()
    removed = (*(settled.files if settled else ()), *change.removed)
    # A commit brings its table up to date.
    before = None if target.table is None else row_count(target.table)
    committed = target.commit(
        added=added,
        removed=(*removed, *marks.removed),
        deletes=marks.added,
        rows=change.rows_after(before or 0),
    )
    if committed is None and target.table is not None:
        return _state(target.table)
    assert committed is not None  # noqa: S101 - a new table always commits
    return replace(
        _state(committed),
        changed=True,
        rows_inserted=change.inserted,
        rows_updated=change.updated,
        rows_deleted=change.deleted,
        rows_before=before,
        rows_replaced=change.replaced,
        rows_kept=change.kept,
        is_anew=change.is_anew,
        files_added=len(added),
        files_removed=len(removed),
        bytes_written=sum(file.file_size_in_bytes for file in (*added, *marks.added)),
        schema_changes=evolved.changes,
    )


def _state(table: Table) -> Written:
    snapshot = table.current_snapshot()
    return Written(
        changed=False,
        metadata_location=table.metadata_location,
        snapshot_id=None if snapshot is None else snapshot.snapshot_id,
        rows_total=row_count(table),
    )
