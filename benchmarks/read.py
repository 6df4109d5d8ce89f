"""How long questions to a table take, without and with dead rows, beside other readers of its files.

`python -m benchmarks.read --rows 1M,10M`. Every reader but `read_parquet` plans which files to read,
and that is part of its time; a process has answered nothing before it is measured.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow.compute as pc
from duckdb import DuckDBPyConnection
from pyiceberg.expressions.parser import parse
from pyiceberg.table import StaticTable, Table

from benchmarks.paper import Figures, keep
from benchmarks.peers import (
    DATA,
    Sample,
    Took,
    measured,
    sales,
    sample,
    short,
    sizes,
)
from rat_resources.lake.locations import duckdb_path
from rat_resources.lake.reading import register_table, row_count
from rat_resources.lake.sql import literal
from tests.rat_resources.lake.readers import extension
from tests.rat_resources.lake.tables import load, make_catalog, mark, write

ARROW_AT_MOST = 10_000_000  # rows whose every column PyIceberg puts into memory
DEAD = "hash(id + 7) % 100 = 0"  # one row in a hundred, anywhere
KINDS = ("whole", "with 1 % dead rows")


@dataclass(frozen=True)
class Question:
    """What is asked: in SQL, and as PyIceberg is asked for it."""

    select: str
    where: str = "true"
    columns: tuple[str, ...] = ("*",)


QUESTIONS = {
    "count": Question("count(*)", columns=()),
    "sums of two columns": Question(
        "sum(quantity), sum(price)", columns=("quantity", "price")
    ),
    "a range of the sorted column": Question(
        "count(*), sum(price)", "id >= {low} AND id < {high}", ("id", "price")
    ),
    "a value of another column": Question(
        "count(*), sum(price)", "product = 77", ("product", "price")
    ),
    "all columns": Question("max(COLUMNS(*))"),
}


def main() -> None:
    """Measure every reader at every size."""
    parts: list[Figures | str] = [
        "Each answer is a process of its own, and includes planning the files to read; RAT and DuckDB's "
        "`iceberg_scan` honour the deletes, `read_parquet` reads the same files with the dead rows in "
        "them. Where 1 % of the rows are dead they lie anywhere, so that no part of a file is without."
    ]
    for rows in sizes(about=__doc__ or ""):
        prepare(rows)
        parts += [f"**{short(rows)} rows × 10 columns**", table_of(rows)]
    keep("read", *parts)


def table_of(rows: int) -> Figures:
    """How long each reader takes for each question."""
    lines = []
    for name in QUESTIONS:
        floor = sample(by_parquet, rows, name)
        for kind in KINDS:
            ours = sample(by_rat, rows, kind, name)
            others = [
                sample(by_iceberg_scan, rows, kind, name),
                by_arrow(rows, kind, name),
            ]
            lines.append(
                [
                    f"{name}, {kind}",
                    floor.time,
                    ours.time,
                    ours.against(floor),
                    ours.memory,
                    *(each.time if each else "—" for each in others),
                ]
            )
    return Figures(
        ["", "read_parquet", "RAT", "ratio", "memory", "iceberg_scan", "PyIceberg"],
        lines,
    )


def by_arrow(rows: int, kind: str, name: str) -> Sample | None:
    """How long PyIceberg takes, where the answer fits into memory."""
    if rows > ARROW_AT_MOST and QUESTIONS[name].columns == ("*",):
        return None
    return sample(by_pyiceberg, rows, kind, name)


# What they read.


def prepare(rows: int) -> None:
    """Write the table, and mark its dead rows, once."""
    if places(rows).exists():
        return
    source = f"FROM read_parquet({literal(sales(rows))})"
    place = DATA / f"read-{rows}"
    catalog = make_catalog(place)
    found = {}
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        write(connection, catalog, source)
        found[KINDS[0]] = load(catalog).metadata_location
        mark(connection, load(catalog), where=DEAD)
        found[KINDS[1]] = load(catalog).metadata_location
        assert 0 < row_count(load(catalog)) < rows  # noqa: S101
    places(rows).write_text(json.dumps(found))


def places(rows: int) -> Path:
    """Where it says which metadata file tells of which kind of table."""
    return DATA / f"read-{rows}.json"


def location_of(rows: int, kind: str) -> str:
    """The table's metadata file."""
    found: Mapping[str, str] = json.loads(places(rows).read_text())
    return found[kind]


def open_table(rows: int, kind: str) -> Table:
    """The table."""
    return StaticTable.from_metadata(location_of(rows, kind))


def question(rows: int, name: str) -> Question:
    """The question as it is asked of a table of so many rows."""
    asked = QUESTIONS[name]
    where = asked.where.format(low=rows // 2, high=rows // 2 + rows // 200)
    return Question(asked.select, where, asked.columns)


# Who reads it.


def by_rat(rows: int, kind: str, name: str) -> Took:
    """RAT: planned, and read by DuckDB."""
    table = open_table(rows, kind)

    def view(connection: DuckDBPyConnection) -> str:
        register_table(connection, table, view="sales")
        return "sales"

    return ask(rows, name, view)


def by_parquet(rows: int, name: str) -> Took:
    """DuckDB, told which files there are."""
    tasks = open_table(rows, KINDS[0]).scan().plan_files()
    paths = ", ".join(literal(duckdb_path(task.file.file_path)) for task in tasks)
    return ask(rows, name, lambda _: f"read_parquet([{paths}])")


def by_iceberg_scan(rows: int, kind: str, name: str) -> Took:
    """DuckDB's Iceberg extension."""
    location = duckdb_path(location_of(rows, kind))
    return ask(rows, name, lambda _: f"iceberg_scan({literal(location)})")


def ask(rows: int, name: str, source: Callable[[DuckDBPyConnection], str]) -> Took:
    """How long DuckDB takes for a question, with making *source* readable."""
    asked = question(rows, name)
    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as connection:
        for each in ("avro", "iceberg"):
            connection.load_extension(str(extension(each)))
        connection.execute("SET TimeZone = 'UTC'")
        with measured() as took:
            connection.execute(
                f"SELECT {asked.select} FROM {source(connection)} WHERE {asked.where}"
            ).fetchall()
    return took


def by_pyiceberg(rows: int, kind: str, name: str) -> Took:
    """PyIceberg, and Arrow for what it does not answer by itself."""
    asked = question(rows, name)
    table = open_table(rows, kind)
    with measured() as took:
        if not asked.columns:
            table.scan().count()
            return took
        scan = table.scan(
            row_filter=parse(asked.where) if asked.where != "true" else "true",
            selected_fields=asked.columns,
        )
        found = scan.to_arrow()
        for column in asked.columns if asked.columns != ("*",) else ():
            pc.sum(found[column])
    return took


if __name__ == "__main__":
    main()
