"""What a full refresh and an append cost: a table of ten columns is written from a Parquet file.

Ours through a real run, from its start in `rat.runs` to its end, branch to publication, and the write
alone; beside DuckDB's own COPY of the same query, its CREATE TABLE AS in its own format, and PyIceberg's
overwrite and append of an Arrow table, whose rows are in memory before it is measured. All write zstd.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.merge import TABLE, own_folder, run_once
from benchmarks.paper import Figures, keep
from benchmarks.peers import Sample, Took, measured, sales, sample, short, sizes
from benchmarks.place import RAT, command, own_place

MOST_ARROW = 10_000_000  # rows that an Arrow table is made of
PATH = "bench/pipelines/bronze/sales/pipeline.sql"
LAYOUTS = {
    "as they come": {},
    "sorted by customer": {"sort_by": "customer"},
    "a partition a day": {"partition_by": "day"},
}
HEAD = ("time", "against COPY", "peak memory")


def main() -> None:
    """Measure, and write the section."""
    keep(
        "refresh",
        *(part for rows in sizes(about=__doc__ or "") for part in table(rows)),
    )


def table(rows: int) -> Iterator[Figures | str]:
    """The figures of a table of so many rows."""
    copy = sample(duckdb_copy, rows)
    found: list[tuple[str, Sample]] = [
        ("RAT, a run: full refresh", sample(our_run, rows, "full_refresh")),
        ("RAT, a run: append", sample(our_run, rows, "append_only")),
        ("RAT, the write: append", sample(our_write, rows, "append_only", {})),
        *(
            (
                f"RAT, the write: refresh, {name}",
                sample(our_write, rows, "full_refresh", layout),
            )
            for name, layout in LAYOUTS.items()
        ),
        ("DuckDB COPY to one file", copy),
        ("DuckDB COPY to files of 256 MB", sample(duckdb_copy, rows, "256MB")),
        ("DuckDB COPY, sorted by customer", sample(duckdb_copy, rows, "", "customer")),
        ("DuckDB CREATE TABLE AS, its own format", sample(duckdb_table, rows)),
    ]
    if rows <= MOST_ARROW:
        found += [
            ("PyIceberg overwrite", sample(pyiceberg_write, rows, "overwrite")),
            ("PyIceberg append", sample(pyiceberg_write, rows, "append")),
        ]
    lines = [(name, each.time, each.against(copy), each.memory) for name, each in found]
    yield Figures((f"{short(rows)} rows", *HEAD), lines)


# Ours.


def our_run(rows: int, strategy: str) -> Took:
    """A run of a pipeline over the table that its first run has made."""
    code = (
        f"-- @merge_strategy: {strategy}\nSELECT * FROM read_parquet('{sales(rows)}')\n"
    )
    with own_place() as place:
        command([str(RAT), "publish", str(place.tree({PATH: code}))])
        command([str(RAT), "run", TABLE])
        import dagster as dg  # noqa: PLC0415 - after the environment

        from rat_resources.platform import platform  # noqa: PLC0415

        with dg.DagsterInstance.get() as instance, measured() as took:
            seconds = run_once(platform(), instance)
        return Took(seconds, took.megabytes)


def our_write(rows: int, strategy: str, layout: dict[str, str]) -> Took:
    """The write alone, over a table that is there."""
    from rat_resources.memory import read_budget  # noqa: PLC0415

    with own_folder() as folder:
        write = Writer(folder, read_budget({}), strategy, layout)
        write(sales(1_000))
        path = sales(rows)
        with measured() as took:
            write(path)
        return took


class Writer:
    """A strategy on a table in a folder, with PyIceberg's own SQL catalog and our DuckDB."""

    def __init__(
        self,
        folder: Path,
        budget: Any,  # noqa: ANN401 - its module is heavy
        strategy: str,
        layout: dict[str, str],
    ) -> None:
        """Open both."""
        from tests.rat_resources.lake.tables import FolderCatalog  # noqa: PLC0415

        self.folder, self.budget = folder, budget
        self.strategy, self.layout = strategy, layout
        self.catalog = FolderCatalog(
            "bench", uri="sqlite:///:memory:", warehouse=folder.as_uri()
        )

    def __call__(
        self, path: str, *, query: str = "FROM read_parquet('{path}')"
    ) -> None:
        """Bring the rows of a file into the table."""
        from rat_resources.lake.strategies import apply  # noqa: PLC0415

        with self.connect() as connection:
            apply(
                connection,
                query=query.format(path=path),
                catalog=self.catalog,
                table_name=self.name,
                config=self.config,
                attempt_time=datetime.now(UTC),
            )

    def connect(self) -> Any:  # noqa: ANN401 - a context of Lake's
        """A DuckDB as a run has it."""
        from rat_resources.lake import Lake  # noqa: PLC0415

        refs: Any = None  # the catalog is not ours
        return Lake(refs, "", self.folder / "spill", self.budget).connect()

    @property
    def name(self) -> Any:  # noqa: ANN401 - its module is heavy
        """The table."""
        from rat_resources.names import TableName  # noqa: PLC0415

        return TableName("bench", "bronze", "sales")

    @property
    def config(self) -> Any:  # noqa: ANN401 - its module is heavy
        """How it is written."""
        from rat_resources.lake.partitioning import PartitionField  # noqa: PLC0415
        from rat_resources.lake.sorting import SortField  # noqa: PLC0415
        from rat_resources.lake.strategies import (  # noqa: PLC0415
            MergeStrategy,
            WriteConfig,
        )

        said = self.layout
        return WriteConfig(
            MergeStrategy(self.strategy),
            unique_key=tuple(filter(None, said.get("unique_key", "").split(","))),
            partition_column=said.get("partition_column"),
            partition_by=tuple(
                PartitionField(each)
                for each in filter(None, [said.get("partition_by")])
            ),
            sort_by=tuple(
                SortField(each) for each in filter(None, [said.get("sort_by")])
            ),
        )


# The peers.


def duckdb_copy(rows: int, size: str = "", order: str = "") -> Took:
    """DuckDB's own COPY of the query."""
    import duckdb  # noqa: PLC0415

    sort = f" ORDER BY {order}" if order else ""
    split = f", FILE_SIZE_BYTES '{size}'" if size else ""
    with own_folder() as folder, duckdb.connect() as connection:
        connection.execute(f"SET temp_directory = '{folder}/spill'")
        query = f"FROM read_parquet('{sales(rows)}'){sort}"
        target = folder / ("files" if size else "sales.parquet")
        with measured() as took:
            connection.execute(
                f"COPY ({query}) TO '{target}' (FORMAT parquet, COMPRESSION zstd{split})"
            )
        return took


def duckdb_table(rows: int) -> Took:
    """DuckDB's table of the query, in a database file of its own."""
    import duckdb  # noqa: PLC0415

    path = sales(rows)
    with own_folder() as folder:
        with (
            duckdb.connect(str(folder / "sales.duckdb")) as connection,
            measured() as took,
        ):
            connection.execute(f"CREATE TABLE sales AS FROM read_parquet('{path}')")
            connection.execute("CHECKPOINT")
        return took


def pyiceberg_write(rows: int, how: str) -> Took:
    """PyIceberg's own overwrite or append, over a table that is there."""
    import pyarrow.parquet as pq  # noqa: PLC0415
    from pyiceberg.catalog.sql import SqlCatalog  # noqa: PLC0415

    with own_folder() as folder:
        catalog = SqlCatalog(
            "bench", uri="sqlite:///:memory:", warehouse=folder.as_uri()
        )
        catalog.create_namespace("bench")
        first = pq.read_table(sales(1_000))
        there = catalog.create_table("bench.sales", schema=first.schema)
        there.append(first)
        arrow = pq.read_table(sales(rows))
        with measured() as took:
            getattr(there, how)(arrow)
        return took


if __name__ == "__main__":
    main()
