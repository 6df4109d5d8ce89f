"""Stories made at random: what is written to one table, one batch after the other.

Columns keep their names and mostly their types, batches share keys, and what a table can hold of odd
values is among them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from rat_resources.lake.partitioning import PartitionField
from rat_resources.lake.sql import literal, quote
from rat_resources.lake.strategies import MergeStrategy, WriteConfig
from tests.rat_resources.lake.model import NARROWER, TIMES, WIDER, Batch, Row

NAN, INFINITY = float("nan"), float("inf")
LONG = "x" * 40
POOLS: dict[str, Sequence[Any]] = {
    "INTEGER": (0, 1, 2, 3, -1, 2**31 - 1),
    "BIGINT": (0, 1, 2, 3, -(2**31), 2**40),
    "VARCHAR": ("a", "b", "", "it's", "é", f"{LONG}1", f"{LONG}2", "\U0010ffff" * 20),
    "DECIMAL(9,2)": (Decimal("1.00"), Decimal("-0.01"), Decimal("1234567.89")),
    "DECIMAL(14,2)": (Decimal("1.00"), Decimal("-0.01"), Decimal("123456789012.50")),
    "FLOAT": (0.0, 1.5, NAN, -0.0, -INFINITY),
    "DOUBLE": (0.0, 1.5, NAN, -0.0, INFINITY, 1e300),
    "DATE": (
        date(2026, 1, 1),
        date(1970, 1, 1),
        date(1969, 12, 31),
        date.min,
        date.max,
    ),
    "TIMESTAMP": (
        datetime(2026, 1, 1, 12),  # noqa: DTZ001
        datetime(1969, 12, 31, 23, 59, 59, 999999),  # noqa: DTZ001
        datetime(1970, 1, 1),  # noqa: DTZ001
        datetime.max,  # noqa: DTZ901
    ),
    TIMES: (
        datetime(2026, 1, 1, 12, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999999, UTC),
        datetime.max.replace(tzinfo=UTC),
    ),
    "TIME": (time(0), time(23, 59, 59, 999999)),
    "BOOLEAN": (False, True),
    "UUID": (UUID(int=0), UUID(int=2**127), UUID(int=2**128 - 1)),
    "BLOB": (b"", b"\x00", b"\xff" * 20),
}
NESTED: dict[str, Sequence[Any]] = {
    "INTEGER[]": ([], [1, None], [1, 2]),
    "STRUCT(a INTEGER, b VARCHAR)": ({"a": 1, "b": None}, {"a": None, "b": "x"}),
}
TIMED = ("year", "month", "day")
TRANSFORMS: dict[str, tuple[str, ...]] = {
    "INTEGER": ("identity", "bucket", "truncate"),
    "BIGINT": ("identity", "bucket", "truncate"),
    "DECIMAL(9,2)": ("identity", "bucket", "truncate"),
    "DECIMAL(14,2)": ("identity", "bucket", "truncate"),
    "VARCHAR": ("identity", "bucket", "truncate"),
    "DATE": ("identity", *TIMED, "bucket"),
    "TIMESTAMP": ("identity", *TIMED, "hour", "bucket"),
    TIMES: ("identity", *TIMED, "hour", "bucket"),
    "TIME": ("identity", "bucket"),
    "UUID": ("identity", "bucket"),
    "BLOB": ("identity", "bucket", "truncate"),
    "BOOLEAN": ("identity",),
    "FLOAT": ("identity",),
    "DOUBLE": ("identity",),
}
START = datetime(2026, 1, 1, 12, tzinfo=UTC)
KEYS = ("k", "the key")
VALUES = ("v", "order", "w", 'it"s')
WATERMARK = "seen"


@dataclass(frozen=True)
class Step:
    """One write."""

    batch: Batch
    config: WriteConfig
    at: datetime
    full_refresh: bool = False
    scope: Mapping[str, Any] | None = None

    @property
    def query(self) -> str:
        """A query that returns the batch."""
        return as_query(self.batch)


def as_query(batch: Batch) -> str:
    """A query that returns the batch's rows in order, in its types."""
    columns = ", ".join(
        f"CAST({quote(name)} AS {kind}) AS {quote(name)}"
        for name, kind in batch.columns.items()
    )
    names = ", ".join(map(quote, batch.columns))
    rows = [[row.get(name) for name in batch.columns] for row in batch.rows]
    written = [f"({', '.join(map(as_sql, row))})" for row in rows]
    # DuckDB has no list of rows without any.
    nothing = f"({', '.join(['NULL'] * len(batch.columns))})"
    found = f"(VALUES {', '.join(written) or nothing}) AS t({names})"
    return f"SELECT {columns} FROM {found}{'' if written else ' WHERE false'}"


def as_sql(value: Any) -> str:  # noqa: ANN401
    """A value as text that DuckDB casts to it."""
    match value:
        case None:
            return "NULL"
        case bytes():
            return literal("".join(f"\\x{byte:02X}" for byte in value))
        case list() | dict():
            return literal(str(value).replace("None", "NULL"))
    return literal(str(value))


@st.composite
def stories(draw: DrawFn, *, longest: int = 4) -> list[Step]:
    """Some writes to one table."""
    kinds = draw(kinds_of_columns())
    keys = KEYS[: draw(st.sampled_from([1, 1, 2]))]
    policy: Literal["evolve", "fail", "ignore"] = draw(
        st.sampled_from(["evolve", "evolve", "evolve", "ignore", "fail"])
    )
    count = draw(st.integers(1, longest))
    config = WriteConfig(on_schema_change=policy)
    story = []
    for number in range(count):
        if number == 0 or draw(st.integers(0, 3)) == 0:
            config = draw(configs(kinds, keys=keys, policy=policy))
        at = START + timedelta(hours=draw(st.integers(-1, 24)))
        story.append(draw(steps(kinds, config=config, keys=keys, at=at)))
    return story


@st.composite
def kinds_of_columns(draw: DrawFn) -> dict[str, str]:
    """The type of each column that a table may have."""
    kinds = {name: draw(st.sampled_from(list(POOLS))) for name in KEYS}
    kinds |= {name: draw(st.sampled_from([*POOLS, *NESTED])) for name in VALUES}
    kinds[WATERMARK] = draw(st.sampled_from(["INTEGER", "TIMESTAMP", "DOUBLE"]))
    return kinds


@st.composite
def configs(
    draw: DrawFn,
    kinds: Mapping[str, str],
    *,
    keys: tuple[str, ...],
    policy: Literal["evolve", "fail", "ignore"],
) -> WriteConfig:
    """How the table is written, from now on."""
    strategy = draw(st.sampled_from(MergeStrategy))
    is_scd2 = strategy == MergeStrategy.SCD2
    divided = draw(st.lists(st.sampled_from([*keys, "v"]), max_size=2))
    return WriteConfig(
        merge_strategy=strategy,
        unique_key=keys,
        watermark_column=draw(st.sampled_from([None, WATERMARK])),
        partition_column=keys[0] if strategy == MergeStrategy.SNAPSHOT else None,
        partition_by=tuple(
            {
                field.name: field
                for name in divided
                if kinds[name] in TRANSFORMS
                for field in [draw(partition_fields(name, kind=kinds[name]))]
            }.values()
        ),
        scd_close_missing=is_scd2 and draw(st.booleans()),
        on_schema_change=policy,
        **draw(write_modes()),
    )


def write_modes() -> st.SearchStrategy[dict[str, Any]]:
    """How rows make way; left to itself, a table as small as these is written anew."""
    modes = ["merge_on_read", "merge_on_read", "copy_on_write", "auto"]
    return st.sampled_from([{"write_mode": mode} for mode in modes])


@st.composite
def partition_fields(draw: DrawFn, name: str, *, kind: str) -> PartitionField:
    """A way to divide a table by a column."""
    transform = draw(st.sampled_from(TRANSFORMS[kind]))
    needs_width = transform in {"bucket", "truncate"}
    return PartitionField(
        name, transform, draw(st.sampled_from([1, 3])) if needs_width else None
    )


@st.composite
def steps(
    draw: DrawFn,
    kinds: Mapping[str, str],
    *,
    config: WriteConfig,
    keys: tuple[str, ...],
    at: datetime,
) -> Step:
    """One write of a few rows, mostly in the columns of the one before."""
    columns = {name: draw(versions(kinds[name])) for name in keys}
    divided = {each.column for each in config.partition_by}
    for name in VALUES[:2]:
        if name in divided or draw(st.integers(0, 5)):
            columns[name] = draw(versions(kinds[name]))
    for name in VALUES[2:]:
        if draw(st.integers(0, 5)) == 0:
            columns[name] = draw(st.sampled_from([kinds[name], "VARCHAR"]))
    if config.watermark_column or draw(st.booleans()):
        columns[WATERMARK] = kinds[WATERMARK]
    rows = draw(st.lists(rows_of(columns), max_size=6))
    step = Step(Batch(columns, rows), config, at, draw(st.integers(0, 9)) == 0)
    if config.merge_strategy == MergeStrategy.SCD2 or draw(st.integers(0, 4)):
        return step
    return in_scope(step, {keys[0]: draw(some_value(columns[keys[0]]))})


def in_scope(step: Step, scope: Mapping[str, Any]) -> Step:
    """The same where the rows take the place of those with a value, which they have as well."""
    rows = [{**row, **scope} for row in step.batch.rows]
    return replace(
        step, batch=replace(step.batch, rows=rows), scope=scope, full_refresh=False
    )


def versions(kind: str) -> st.SearchStrategy[str]:
    """The type of a column, mostly, or one that its values fit into, or the other way round."""
    others = [other for other in (WIDER.get(kind), NARROWER.get(kind)) if other]
    return st.sampled_from([kind] * 4 + others)


def rows_of(columns: Mapping[str, str]) -> st.SearchStrategy[Row]:
    """A row of these columns."""
    return st.fixed_dictionaries(
        {name: some_value(kind) for name, kind in columns.items()}
    )


def some_value(kind: str) -> st.SearchStrategy[Any]:
    """A value that a column of this type may have."""
    return st.sampled_from([*(POOLS | NESTED)[kind], None])
