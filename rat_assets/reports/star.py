"""The star as tables of the lake: `platform.gold.*`, to be queried next to the data.

Each is a hand-written asset that the platform brings along: the rows that Postgres has in `lakeflow`,
through the phases of any pipeline. They run when they are asked for and every hour, never with
everything else. What fills Postgres is `rat_resources.mirror`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import duckdb
import psycopg
import pyarrow as pa
from psycopg import sql
from sqlalchemy import Table

from rat_assets.hand_written import LakeAsset, PinnedLake
from rat_resources.lake.sql import name_list
from rat_resources.metadata import lakeflow
from rat_resources.metadata.base import LakeflowBase
from rat_resources.metadata.exporting import read, schema_of, snapshot
from rat_resources.names import PLATFORM, TableName
from rat_resources.platform import platform

EVERYTHING = sql.SQL("true")
# A run is told within minutes; what is told later still is found by counting.
LATE = "INTERVAL 1 DAY"
START = "period_start_time"

NULL_TEST = """-- @description: Every row says which one it is
-- @severity: error
SELECT * FROM {{{{ this }}}} WHERE {condition}
"""
UNIQUE_TEST = """-- @description: One row a key
-- @severity: error
SELECT {keys}, count(*) AS rows FROM {{{{ this }}}} GROUP BY {keys} HAVING count(*) > 1
"""


@cache
def star_assets() -> tuple[LakeAsset, ...]:
    """The tables of the star. Facts come first: a dimension read later knows all that they name."""
    return (
        make_fact(lakeflow.FactJobTaskRunTimeline),
        make_fact(lakeflow.FactJobRunTimeline),
        make_fact(lakeflow.FactPipelineUpdateTimeline),
        make_dimension(lakeflow.DimJobTask),
        make_dimension(lakeflow.DimJob),
        make_dimension(lakeflow.DimPipeline),
        make_dimension(lakeflow.DimWorkspace),
    )


def make_dimension(model: type[LakeflowBase]) -> LakeAsset:
    """A table that is read whole, of which only what changed is written."""
    table = table_of(model)

    def body(_: PinnedLake) -> pa.RecordBatchReader:
        return rows_of(table)

    return named(model, body)


def make_fact(model: type[LakeflowBase]) -> LakeAsset:
    """A table of which only what may have changed since is read."""
    table = table_of(model)

    def body(lake: PinnedLake) -> pa.RecordBatchReader:
        return rows_of(table, known=known_rows(lake))

    return named(model, body)


def named(model: type[LakeflowBase], body: Any) -> LakeAsset:  # noqa: ANN401 - a function, whose name is set
    """The asset of a table, called as the table is."""
    table = table_of(model)
    keys = [column.name for column in table.primary_key]
    body.__name__, body.__doc__ = table.name, model.__doc__
    return LakeAsset(
        TableName(PLATFORM, "gold", table.name),
        body,
        reads=(),
        tests=tests_of(keys),
        config={"merge_strategy": "incremental", "unique_key": keys},
    )


def table_of(model: type[LakeflowBase]) -> Table:
    """The table of a model."""
    return cast("Table", model.__table__)


def tests_of(keys: Sequence[str]) -> dict[str, str]:
    """What must hold of a table with these keys."""
    missing = " OR ".join(f"{key} IS NULL" for key in keys)
    return {
        "keys_are_there": NULL_TEST.format(condition=missing),
        "keys_are_unique": UNIQUE_TEST.format(keys=name_list(keys)),
    }


@dataclass(frozen=True)
class Known:
    """What the lake holds of a table: up to *since* it is what Postgres holds, if so many rows are."""

    since: Any  # a moment
    rows: int


def known_rows(lake: PinnedLake) -> Known | None:
    """What need not be read again; None when everything must be."""
    this = lake.this
    if this is None or not lake.is_incremental:
        return None
    try:
        since = this.aggregate(
            f"least(max({START}), min({START}) FILTER (period_end_time IS NULL)) - {LATE}"
        ).fetchall()[0][0]
    except duckdb.BinderException:
        return None  # an older table, without these columns
    if since is None:
        return None
    ((rows,),) = (
        this.filter(duckdb.ColumnExpression(START) < duckdb.ConstantExpression(since))
        .aggregate("count(*)")
        .fetchall()
    )
    return Known(since, rows)


def rows_of(table: Table, *, known: Known | None = None) -> pa.RecordBatchReader:
    """The rows of Postgres that the lake may lack, at one moment."""
    return pa.RecordBatchReader.from_batches(
        schema_of(table), read_rows(table, known=known)
    )


def read_rows(table: Table, *, known: Known | None) -> Iterator[pa.RecordBatch]:
    """Those rows, batch by batch; Postgres is asked when the first is."""
    with snapshot(platform().metadata.engine) as connection:
        where = condition(connection, table, known=known) if known else EVERYTHING
        yield from read(connection, table, where=where)


def condition(
    connection: psycopg.Connection, table: Table, *, known: Known
) -> sql.Composable:
    """Which rows the lake may lack."""
    start, name = sql.Identifier(START), sql.Identifier(table.schema or "", table.name)
    before = sql.SQL("{} < {}").format(start, sql.Literal(known.since))
    count = connection.execute(
        sql.SQL("SELECT count(*) FROM {} WHERE {}").format(name, before)
    ).fetchone()
    if count != (known.rows,):
        return EVERYTHING
    return sql.SQL("({}) IS NOT TRUE").format(before)
