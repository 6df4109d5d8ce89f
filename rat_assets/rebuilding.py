"""Rebuilding: what a run that invalidations asked for makes anew, and nothing besides.

Which rows of the table may be others is told by `rat_resources.lake.narrowing`, of the query as a
full refresh renders it, over the inputs as they are and as they were when the table was made. Where
that cannot be told for sure, or history would be lost, it says so and takes more, or nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import duckdb
from duckdb import DuckDBPyConnection
from pyiceberg.table import Table
from sqlalchemy import text

from rat_assets.computation import Computation
from rat_resources import row_filters
from rat_resources.errors import FilterError
from rat_resources.invalidations import Invalidation, collapsed
from rat_resources.lake.batch import count_rows, query_columns
from rat_resources.lake.committing import original_snapshot
from rat_resources.lake.differing import Difference
from rat_resources.lake.from_spec import write_config
from rat_resources.lake.pruning import Box, Range, any_box
from rat_resources.lake.reading import register_table, row_count
from rat_resources.lake.refs import IcebergTable
from rat_resources.lake.replacing import EVERYTHING, Rebuild
from rat_resources.lake.sql import name_list, quote
from rat_resources.lake.types import sql_type
from rat_resources.names import TableName
from rat_resources.row_filters import WHOLE, Condition, RowFilter
from rat_resources.runs import Pin

MANY_FILES = 16  # of which it pays to find those that matter
LISTED = 20  # values that a condition says one by one
SIGN = "__rat_sign"  # whether a row came or went
HISTORY = ("append_only", "scd2", "snapshot")  # what they hold may be nowhere else


class NotNarrowedError(Exception):
    """Nothing smaller than the table is known to be right; says why."""


def plan(work: Computation) -> Rebuild | None:
    """What the run makes anew for the invalidations that it took; None: it is not for any."""
    if not work.told or work.own is None or work.spec.is_view:
        return None
    strategy = work.config.merge_strategy
    if strategy == "scd2":
        return Rebuild("kept", "scd2 keeps what was: an ordinary run, over all rows")
    try:
        rebuild = narrowed(work)
    except NotNarrowedError as error:
        rebuild = widened(work, str(error))
    columns = f" by {', '.join(rebuild.columns)}" if rebuild.columns else ""
    work.journal.say(f"made anew: {rebuild.level}{columns}: {rebuild.why}")
    return rebuild


def widened(work: Computation, why: str) -> Rebuild:
    """What is made anew where no part of the table can be told from the rest."""
    strategy = work.config.merge_strategy
    if strategy in HISTORY:
        return Rebuild("kept", f"{why}; {strategy} holds rows that are nowhere else")
    if work.spec.type != "sql" or work.spec.zones or not has_columns_of(work):
        return Rebuild("table", why)
    # All of it, and yet only the rows that are others are written, and told of.
    keys = write_config(work.spec).keys
    return Rebuild("table", why, work.sql, replace(EVERYTHING, keys=keys))


def has_columns_of(work: Computation) -> bool:
    """Whether the query returns the very columns that the table has."""
    assert work.own is not None  # noqa: S101 - else there is nothing to make anew
    own = {field.name: field.field_type for field in work.own.schema().fields}
    try:
        returned = query_columns(work.connection, work.sql)
    except Exception:  # noqa: BLE001 - whatever it is, the run itself will say it
        return False
    return own == {column.name: column.type for column in returned}


def narrowed(work: Computation) -> Rebuild:
    """The part of the table that may be another one; NotNarrowedError where none can be told."""
    # It brings sqlglot, which no other run waits for.
    from rat_resources.lake.narrowing import narrow  # noqa: PLC0415

    refuse_unreadable(work)
    config, own = work.config, work.own
    assert own is not None  # noqa: S101 - `plan` has seen it
    query = whole_query(work)
    if config.merge_strategy == "full_refresh" and not has_columns_of(work):
        raise NotNarrowedError("its columns are not those that the table has")
    versions = old_versions(work)
    keys = config.unique_key if config.merge_strategy == "incremental" else ()
    found = narrow(
        work.connection,
        query,
        invalidated=[
            invalidated(work, each, olds=versions[each.table])
            for each in collapsed(work.told)
        ],
        passing=passing(work, query),
        types={f.name: sql_type(f.field_type) for f in own.schema().fields},
        keys=keys,
        reads=sum(map(row_count, work.inputs.tables.values())),
        holds=row_count(own),
    )
    if found.is_whole:
        raise NotNarrowedError(found.why)
    # Run here, once: what it returns decides whether a part is enough.
    rows = f"rat_rebuilt_{uuid4().hex}"
    work.connection.execute(f"CREATE TEMP TABLE {rows} AS {found.query}")
    refuse_news(work, rows)
    told_by = keys or config.unique_key or found.columns
    return Rebuild(
        level_of(work, found.level, found.columns),
        found.why,
        f"FROM {rows}",
        found.scope(keys=told_by),
    )


def level_of(work: Computation, level: str, columns: Sequence[str]) -> str:
    """The level, where it is that of whole partitions."""
    parts = write_config(work.spec)
    divided = {
        each.column for each in parts.partition_by if each.transform == "identity"
    }
    divided |= {parts.partition_column} if parts.partition_column else set()
    return "partition" if columns and set(columns) <= divided else level


def refuse_unreadable(work: Computation) -> None:
    """NotNarrowedError for what no query says, or what has no older versions."""
    spec = work.spec
    if spec.type != "sql":
        raise NotNarrowedError("a Python pipeline may read any row")
    if spec.zones:
        raise NotNarrowedError("it reads landing files too")
    if work.config.merge_strategy == "append_only" and not work.config.watermark_column:
        raise NotNarrowedError("what it has appended of one row is not known")
    told = {each.table for each in work.told}
    for name, view in work.inputs.views.items():
        if name in told or told & set(view.spec.refs):
            raise NotNarrowedError(
                f"{name} is a view, of which no older version is kept"
            )


def whole_query(work: Computation) -> str:
    """The query as a full refresh renders it."""
    anew = replace(work.render_context, full_refresh=True, watermark_value=None)
    query = work.render_in(anew)
    if quote(str(work.name)) in query:
        raise NotNarrowedError("it reads its own table")
    return query


def passing(work: Computation, query: str) -> list[str]:
    """The texts of the query that another time of the run would make others."""
    from sqlglot import tokenize  # noqa: PLC0415 - as above

    later = work.started_at + timedelta(days=400, hours=7, minutes=11, seconds=13)
    context = replace(
        work.render_context,
        full_refresh=True,
        watermark_value=None,
        run_started_at=later,
    )
    ours = tokenize(query, read="duckdb")
    theirs = tokenize(work.render_in(context), read="duckdb")
    if [each.token_type for each in ours] != [each.token_type for each in theirs]:
        raise NotNarrowedError("what it asks depends on the time of the run")
    pairs = zip(ours, theirs, strict=True)
    others = [mine for mine, other in pairs if mine.text != other.text]
    if any(each.token_type.name != "STRING" for each in others):
        raise NotNarrowedError("what it asks depends on the time of the run")
    return list(dict.fromkeys(each.text for each in others))


def refuse_news(work: Computation, rows: str) -> None:
    """NotNarrowedError where rows are beyond what was read: later runs would lose those between."""
    mark = work.config.watermark_column
    own = work.own
    if not mark or own is None or mark not in own.schema().column_names:
        return
    kind = sql_type(own.schema().find_field(mark).field_type)
    newest = f"(SELECT max({quote(mark)}::{kind}) FROM {rows})"
    # Most often the first row that is looked at says so, whereas the greatest takes them all.
    if count_rows(
        work.connection,
        f"(FROM {quote(str(work.name))} WHERE {quote(mark)} >= {newest} LIMIT 1)",
    ):
        return
    greatest = work.greatest(mark)
    query = f"(FROM {rows} WHERE {quote(mark)}::{kind} > $1::{kind})"
    if greatest is None:
        return
    ((beyond,),) = work.connection.execute(
        f"SELECT count(*) FROM {query}", [greatest]
    ).fetchall()
    if beyond:
        raise NotNarrowedError(f"{beyond:,} rows in scope are beyond the watermark")


# What was read before.


def invalidated(
    work: Computation, each: Invalidation, *, olds: Mapping[str, Table]
) -> Any:  # noqa: ANN401 - its module is heavy
    """An invalidation as narrowing takes it."""
    from rat_resources.lake.evaluating import Invalidated  # noqa: PLC0415

    parts = (condition(work.connection, part) for part in each.filter.conditions)
    name = str(each.table)
    tables = {name: work.inputs.tables[each.table], **olds}
    return Invalidated(
        name,
        " AND ".join(parts) or "true",
        each.filter.columns,
        tuple(olds),
        tuple(ranges(each.filter)),
        partial(prune, work.connection, {n.casefold(): t for n, t in tables.items()}),
        partial(show, work.connection, olds),
    )


def show(connection: DuckDBPyConnection, olds: Mapping[str, Table], view: str) -> None:
    """Let SQL read an older version of a table."""
    from rat_resources.lake.wording import WideError  # noqa: PLC0415 - as above

    try:
        register_table(connection, olds[view], view=view)
    except (OSError, duckdb.IOException) as error:
        raise WideError("what it read is gone") from error


def ranges(rows: RowFilter) -> Iterator[Range]:
    """Where the rows of a filter lie."""
    for each in rows.conditions:
        low, high = each.ends
        if low is not None or high is not None:
            yield Range(each.column, low, high)


def prune(
    connection: DuckDBPyConnection,
    tables: Mapping[str, Table],
    name: str,
    boxes: Sequence[Box],
) -> str | None:
    """The view of a table without the files that hold no row in *boxes*; None: it has few files."""
    table = tables[name.casefold()]
    snapshot = table.current_snapshot()
    summary = snapshot.summary if snapshot else None
    if summary is None or int(summary["total-data-files"] or 0) < MANY_FILES:
        return None
    view = f"rat_pruned_{uuid4().hex}"
    within = any_box(connection, boxes, schema=table.schema())
    register_table(connection, table, view=view, within=within)
    return view


def condition(connection: DuckDBPyConnection, part: Condition) -> str:
    """A condition as SQL; many values stand in a table of their own, where nobody has to read them."""
    name = quote(part.column)
    if part.operator != "in" or len(part.values) <= LISTED:
        return part.sql(name)
    table = f"rat_values_{uuid4().hex}"
    texts = ", ".join(map(row_filters.as_text, part.values))
    connection.execute(
        f"CREATE TEMP TABLE {table} AS SELECT unnest(CAST([{texts}] AS {part.type}[])) AS value"
    )
    return f"{name} IN (SELECT value FROM {table})"


def old_versions(work: Computation) -> dict[TableName, dict[str, Table]]:
    """The older versions of what was invalidated, by its name and that of the view of each."""
    if work.config.merge_strategy == "full_refresh":
        pins = last_pins(work)
        refuse_other_changes(work, pins)
    else:
        pins = pins_since(work)
    found: dict[TableName, dict[str, Table]] = {}
    current = work.inputs.snapshots
    for table in {each.table for each in work.told}:
        if not pins.get(table) or table not in current:
            raise NotNarrowedError(f"nobody knows {table} as it was")
        others = [p for p in pins[table] if p.snapshot_id != current[table]]
        found[table] = {f"rat_old_{uuid4().hex}": load_old(work, pin) for pin in others}
    return found


def load_old(work: Computation, pin: Pin) -> Table:
    """A table as it was."""
    content = IcebergTable(
        pin.metadata_location,
        pin.snapshot_id or -1,
        schema_id=-1,
        spec_id=-1,
        sort_order_id=-1,
    )
    catalog = work.platform.lake.catalog(work.inputs.at)
    try:
        return catalog.load_table_at(pin.table.key, content)
    except (OSError, duckdb.IOException) as error:
        raise NotNarrowedError(f"{pin.table} as it was is gone") from error


def last_pins(work: Computation) -> dict[TableName, list[Pin]]:
    """What the table was made of, as long as it is what that run made of it, by the same code."""
    with work.platform.metadata.transaction() as tx:
        rows = tx.execute(LAST_PINS, {"pipeline_id": work.pipeline.pipeline_id}).all()
    if not rows:
        raise NotNarrowedError("nobody knows what the table was made of")
    own = original_snapshot(work.own.metadata) if work.own else None
    if own is None or rows[0].made != own:
        raise NotNarrowedError("the table is not what its last run made of it")
    if rows[0].code_version != work.spec.code_version:
        raise NotNarrowedError("its definition has changed")
    return by_table(rows)


def by_table(rows: Iterable[Any]) -> dict[TableName, list[Pin]]:
    """The pins of rows, by table."""
    found: dict[TableName, list[Pin]] = {}
    for row in rows:
        if row.metadata_location is not None:
            table = TableName(row.namespace, row.layer, row.name)
            pin = Pin(table, row.metadata_location, row.snapshot_id)
            found.setdefault(table, []).append(pin)
    return found


# What ran and found nothing to read may have pinned what it never looked at.
LAST_PINS = text("""
    SELECT
        rat.published_snapshot(last.made) AS made, version.code_version,
        input.namespace, input.layer, input.name, input.metadata_location,
        rat.published_snapshot(input.snapshot_id) AS snapshot_id
    FROM (
        SELECT id, version_id, snapshot_id AS made
        FROM rat.runs
        WHERE pipeline_id = :pipeline_id AND status = 'success'
            AND (NOT unchanged OR settings ? 'scope')
        ORDER BY finished_at DESC
        LIMIT 1
    ) AS last
    JOIN rat.pipeline_versions AS version ON version.id = last.version_id
    LEFT JOIN rat.run_inputs AS input ON input.run_id = last.id
""")


def pins_since(work: Computation) -> dict[TableName, list[Pin]]:
    """As what the run's pipeline has read the invalidated tables since before they changed."""
    oldest = min(each.created_at for each in work.told)
    with work.platform.metadata.transaction() as tx:
        rows = tx.execute(
            PINS_SINCE,
            {
                "pipeline_id": work.pipeline.pipeline_id,
                "oldest": oldest,
                "names": [str(each.table) for each in work.told],
            },
        ).all()
    found = by_table(rows)
    for each in work.told:
        if each.snapshot_before is not None:
            found.setdefault(each.table, []).append(each.snapshot_before)
    return {
        table: list({pin.snapshot_id: pin for pin in pins}.values())
        for table, pins in found.items()
    }


PINS_SINCE = text("""
    SELECT DISTINCT
        input.namespace, input.layer, input.name, input.metadata_location,
        rat.published_snapshot(input.snapshot_id) AS snapshot_id
    FROM rat.runs AS run
    JOIN rat.run_inputs AS input ON input.run_id = run.id
    WHERE run.pipeline_id = :pipeline_id AND run.status = 'success'
        AND run.finished_at >= coalesce(
            (
                SELECT max(before.finished_at)
                FROM rat.runs AS before
                WHERE before.pipeline_id = :pipeline_id AND before.status = 'success'
                    AND before.finished_at < :oldest
            ),
            '-infinity'
        )
        AND concat_ws('.', input.namespace, input.layer, input.name) = ANY(:names)
""")


def refuse_other_changes(
    work: Computation, pins: Mapping[TableName, Sequence[Pin]]
) -> None:
    """NotNarrowedError where anything else has changed since the table was made."""
    told = {each.table for each in work.told}
    snapshots = work.inputs.snapshots
    for now in work.inputs.pins:
        (before,) = pins.get(now.table, [None])
        if before is not None and before.snapshot_id == snapshots[now.table]:
            continue
        if before is None or now.table not in told:
            raise NotNarrowedError(
                f"{now.table} has changed too since the table was made"
            )
        mine = [each for each in work.told if each.table == now.table]
        filters = [each.filter for each in collapsed(mine)]
        table = work.inputs.tables[now.table]
        try:
            others = changed_outside(
                work.connection, load_old(work, before), table, filters=filters
            )
        except (OSError, duckdb.IOException) as error:
            raise NotNarrowedError(f"{now.table} as it was is gone") from error
        if others:
            raise NotNarrowedError(f"other rows of {now.table} have changed too")


def changed_outside(
    connection: DuckDBPyConnection,
    old: Table,
    new: Table,
    *,
    filters: Sequence[RowFilter],
) -> bool:
    """Whether two versions of a table differ in more than the rows of *filters*."""
    if [f.name for f in old.schema().fields] != [f.name for f in new.schema().fields]:
        return True
    meant = " OR ".join(f"({each.sql()})" for each in filters)
    moved = Difference(old, new).rows(connection, old=old.schema(), new=new.schema())
    removed, added = (
        f"SELECT *, {sign} AS {SIGN} FROM ({rows}) WHERE ({meant}) IS NOT TRUE"
        for rows, sign in zip(moved, (-1, 1), strict=True)
    )
    columns = name_list(field.name for field in new.schema().fields)
    differing = (
        f"(SELECT 1 FROM ({removed} UNION ALL {added}) "
        f"GROUP BY {columns} HAVING sum({SIGN}) <> 0 LIMIT 1)"
    )
    return bool(count_rows(connection, differing))


# What its readers have to know.


def emitted(work: Computation) -> RowFilter:
    """Which rows of the table are others now; all of them where that is not known."""
    written, table = work.written, work.table
    if written is None or table is None or written.changed_values is None:
        return WHOLE
    columns = {f.name: sql_type(f.field_type) for f in table.schema().fields}
    known = {}
    for name, values in written.changed_values.items():
        try:
            row_filters.parse({name: values}, columns=columns)
        except FilterError:
            continue
        known[name] = list(values)
    return row_filters.parse(known, columns=columns)
