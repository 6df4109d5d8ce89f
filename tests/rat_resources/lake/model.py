"""What each strategy leaves in a table, in plain Python: the measure of what the lake does.

A row maps the names of columns to values; one that a row has no value for is NULL. It knows nothing
of files, snapshots and SQL.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from rat_resources.lake.strategies import MergeStrategy, WriteConfig

Row = Mapping[str, Any]
Identity = tuple[Any, ...]

MICROSECOND = timedelta(microseconds=1)
TIMES = "TIMESTAMP WITH TIME ZONE"
WIDER = {
    "INTEGER": "BIGINT",
    "FLOAT": "DOUBLE",
    "DECIMAL(9,2)": "DECIMAL(14,2)",
}
NARROWER = {wide: narrow for narrow, wide in WIDER.items()}
MOST = {"INTEGER": 2**31, "FLOAT": 2.0**128, "DECIMAL(9,2)": 10**7}
ONE_ROW_A_KEY = (MergeStrategy.INCREMENTAL, MergeStrategy.SCD2)


class RefusedError(Exception):
    """The batch's columns cannot be brought into the table."""


@dataclass(frozen=True)
class Batch:
    """What a query returned: its columns with their types in DuckDB, and its rows in order."""

    columns: Mapping[str, str]
    rows: Sequence[Row]


@dataclass(frozen=True)
class Model:
    """A table: its columns in order with their types, and its rows in any."""

    columns: Mapping[str, str] = field(default_factory=dict)
    rows: Sequence[Row] = ()
    exists: bool = False

    def written(
        self,
        batch: Batch,
        *,
        config: WriteConfig,
        at: datetime,
        full_refresh: bool = False,
        scope: Mapping[str, Any] | None = None,
    ) -> "Model":
        """The table after a write; *scope*: the rows with these values make way, and no others."""
        columns = self.follow(batch, config=config, full_refresh=full_refresh)
        kept = [self.in_columns(row, columns) for row in self.rows]
        after = replace(self, columns=columns, rows=kept, exists=True)
        rows: Sequence[Row]
        rows = [{name: row.get(name) for name in columns} for row in batch.rows]
        if config.merge_strategy in ONE_ROW_A_KEY:
            rows = one_row_a_key(rows, config=config)
        if scope is not None and self.exists:
            others = [row for row in kept if not is_within(row, scope)]
            return replace(after, rows=[*others, *rows])
        return after.take(
            rows, config=config, at=at, anew=full_refresh or not self.exists
        )

    def take(
        self, rows: Sequence[Row], *, config: WriteConfig, at: datetime, anew: bool
    ) -> "Model":
        """The table, in the columns that it has now, after the strategy brought *rows* in."""
        if config.merge_strategy == MergeStrategy.SCD2:
            before = () if anew else self.rows
            return replace(self, rows=history(before, rows, config=config, at=at))
        if anew or config.merge_strategy == MergeStrategy.FULL_REFRESH:
            return replace(self, rows=rows)
        if config.merge_strategy == MergeStrategy.APPEND_ONLY:
            return replace(self, rows=[*self.rows, *rows])
        taken = {identity(row, config.keys) for row in rows}
        others = [row for row in self.rows if identity(row, config.keys) not in taken]
        return replace(self, rows=[*others, *rows])

    def follow(
        self, batch: Batch, *, config: WriteConfig, full_refresh: bool
    ) -> dict[str, str]:
        """The columns that the table gets; RefusedError where the two cannot be brought together."""
        returned = dict(batch.columns) | dict.fromkeys(config.scd_columns, TIMES)
        if not self.exists:
            return returned
        policy = config.on_schema_change
        whole = config.merge_strategy == MergeStrategy.FULL_REFRESH
        if full_refresh or (whole and policy == "evolve"):
            return {
                name: merged(self.columns.get(name), kind) or kind
                for name, kind in returned.items()
            }
        found = dict(self.columns)
        for name, kind in returned.items():
            follows = merged(self.columns.get(name), kind)
            if follows is None and any(row.get(name) is not None for row in batch.rows):
                raise RefusedError(name)
            found[name] = follows or found[name]
        if policy == "fail" and (found != self.columns or found.keys() - returned):
            raise RefusedError(policy)
        if policy == "ignore":
            self.refuse_what_is_ignored(batch, config=config)
            return dict(self.columns)
        return found

    def refuse_what_is_ignored(self, batch: Batch, *, config: WriteConfig) -> None:
        """RefusedError where the table's own columns are not enough."""
        needed = {*config.keys, *config.scd_columns, config.watermark_column} - {None}
        if config.merge_strategy not in ONE_ROW_A_KEY:
            needed -= {config.watermark_column}
        if needed - self.columns.keys():
            raise RefusedError(needed)
        for name, kind in self.columns.items():
            if not all(fits(row.get(name), kind) for row in batch.rows):
                raise RefusedError(name)

    def in_columns(self, row: Row, columns: Mapping[str, str]) -> Row:
        """A row of the table once it has other columns; one of a type that cannot follow is empty."""
        return {
            name: row.get(name) if merged(self.columns.get(name), kind) else None
            for name, kind in columns.items()
        }

    def counted(self) -> Counter[Identity]:
        """How often each row is there, by the values in the order of the columns."""
        return count_rows(self.columns, self.rows)


def merged(table: str | None, batch: str) -> str | None:
    """The type that holds the values of both; None if none does."""
    if table in {None, batch, WIDER.get(batch)}:
        return table or batch
    return batch if WIDER.get(table or "") == batch else None


def fits(value: Any, kind: str) -> bool:  # noqa: ANN401
    """Whether a number is one that the type has."""
    most = MOST.get(kind)
    if most is None or value is None or rank(value)[0] or abs(value) == math.inf:
        return True
    return bool(abs(value) < most)


def one_row_a_key(rows: Sequence[Row], *, config: WriteConfig) -> list[Row]:
    """The row of each key with the greatest watermark, or of those the last."""
    chosen: dict[Identity, Row] = {}
    watermark = config.watermark_column
    for row in rows:
        key = identity(row, config.keys)
        before = chosen.get(key)
        if (
            before is None
            or watermark is None
            or not_less(row[watermark], before[watermark])
        ):
            chosen[key] = row
    return list(chosen.values())


def not_less(value: Any, other: Any) -> bool:  # noqa: ANN401
    """Whether a watermark is as great as another one; a missing one is the least."""
    return other is None or (value is not None and rank(value) >= rank(other))


def rank(value: Any) -> tuple[bool, Any]:  # noqa: ANN401
    """By which values are ordered; NaN is greater than every number."""
    is_nan = isinstance(value, float) and math.isnan(value)
    return is_nan, 0 if is_nan else value


def history(
    table: Sequence[Row], batch: Sequence[Row], *, config: WriteConfig, at: datetime
) -> list[Row]:
    """The versions after *batch*: what differs is closed and opened anew, at one time."""
    start, end = config.scd_columns
    open_since = [row[start] for row in table if row[end] is None and row[start]]
    opened: dict[Identity, list[Row]] = {}
    for row in table:
        if row[end] is None:
            opened.setdefault(identity(row, config.keys), []).append(row)
    new, closed = [], set()
    for row in batch:
        key = identity(row, config.keys)
        values = [name for name in row if name not in {start, end}]
        versions = opened.get(key, [])
        if [identity(each, values) for each in versions] == [identity(row, values)]:
            continue
        closed.add(key)
        new.append(row)
    if config.scd_close_missing:
        closed |= opened.keys() - {identity(row, config.keys) for row in batch}
    now = max([at, *(since + MICROSECOND for since in open_since)])
    return [
        *(
            {**row, end: now}
            if row[end] is None and identity(row, config.keys) in closed
            else row
            for row in table
        ),
        *({**row, start: now, end: None} for row in new),
    ]


def is_within(row: Row, scope: Mapping[str, Any]) -> bool:
    """Whether a row has these values."""
    return identity(row, tuple(scope)) == identity(scope, tuple(scope))


def identity(row: Row, names: Iterable[str]) -> Identity:
    """What two rows must share to be the same as far as these columns go."""
    return tuple(comparable(row[name]) for name in names)


def count_rows(names: Iterable[str], rows: Iterable[Row]) -> Counter[Identity]:
    """How often each row is among *rows*."""
    columns = list(names)
    return Counter(identity(row, columns) for row in rows)


def comparable(value: Any) -> Any:  # noqa: ANN401
    """A value that is equal to another one just where SQL says that the two are not distinct."""
    match value:
        case float() if math.isnan(value):
            return "NaN"
        case list():
            return tuple(map(comparable, value))
        case dict():
            return tuple((name, comparable(each)) for name, each in value.items())
    return value
