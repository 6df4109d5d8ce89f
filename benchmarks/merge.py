"""What a merge costs: batches of keys brought into a table of ten columns.

Ours through a real run, from its start in `rat.runs` to its end, branch to publication, and the write
alone; beside DuckDB's MERGE INTO a table of its own format, PyIceberg's delete and append, and, on the
smallest table, its upsert. Each in a process of its own; a table is made once, and each process begins
with it as it was then, but for our runs, which go on with what the run before has left.
"""

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

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
from benchmarks.place import RAT, Place, command, forget_cluster, kept_place

SMALLEST = 1_000_000  # rows, beyond which PyIceberg's upsert takes hours
MOST_UPSERTED = 1_000  # keys
MOST_LISTED = 100_000  # keys, beyond which PyIceberg's list of them takes minutes
PIPELINE = """-- @merge_strategy: incremental
-- @unique_key: {keys}
-- @watermark_column: updated_at
SELECT * FROM read_parquet('{batch}')
"""
TABLE = "bench.bronze.sales"
ONE_KEY = ("id",)
COMPOSITE = ("customer", "id")
HEAD = (
    "batch",
    "RAT, a run",
    "RAT, the write",
    "DuckDB MERGE",
    "PyIceberg delete + append",
    "PyIceberg upsert",
    "peak memory, in this order",
)


def main() -> None:
    """Measure, and write the section."""
    keep(
        "merge", *(part for rows in sizes(about=__doc__ or "") for part in table(rows))
    )


def table(rows: int) -> Iterator[Figures | str]:
    """The figures of a table of so many rows."""
    lines = [line(rows, *each) for each in batches(rows)]
    yield Figures((f"{short(rows)} rows", *HEAD[1:]), lines)


def batches(rows: int) -> Iterator[tuple[str, str, int, tuple[str, ...]]]:
    """What is brought in: its name, which keys, how many, and the columns that are the key."""
    for count in (1_000, 50_000):
        yield f"{short(count)} recent keys", "recent", count, ONE_KEY
        yield f"{short(count)} random keys", "random", count, ONE_KEY
        yield f"{short(count)} random keys of two columns", "random", count, COMPOSITE
    for share in (1, 20):
        yield f"{share} % of the table, random", "random", rows * share // 100, ONE_KEY


def line(
    rows: int, name: str, kind: str, count: int, keys: tuple[str, ...]
) -> tuple[str, ...]:
    """One batch, by everybody who can."""
    asked = (rows, kind, count, keys)
    run = sample(our_run, *asked)
    found: list[Sample | None] = [
        run,
        sample(our_write, *asked),
        sample(duckdb_merge, *asked),
        sample(pyiceberg_delete_append, *asked) if count <= MOST_LISTED else None,
        sample(pyiceberg_upsert, *asked)
        if rows <= SMALLEST and count <= MOST_UPSERTED
        else None,
    ]
    times = [
        "–" if each is None else f"{each.time}, {each.against(run)}" for each in found
    ]
    memory = " · ".join(each.memory for each in found if each)
    return (name, found[0].time if found[0] else "–", *times[1:], memory)


# The batch.


def make_batch(rows: int, kind: str, count: int) -> Path:
    """A file of rows for so many keys; of nine in ten the table has a row with other values."""
    import duckdb  # noqa: PLC0415

    path = DATA / f"batch-{uuid4().hex}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = random.randrange(10**6)  # noqa: S311 - no secret
    where = (
        f"id >= {rows - count}"
        if kind == "recent"
        else f"hash(id + {seed}) % {rows} < {count}"
    )
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            "COPY (SELECT * REPLACE ("
            f"CASE WHEN id % 10 = 0 THEN id + {rows} ELSE id END AS id, "
            "quantity % 9 + 1 AS quantity, "
            "now() + to_microseconds(id) AS updated_at) "
            f"FROM read_parquet('{sales(rows)}') WHERE {where}) TO '{path}' (FORMAT parquet)"
        )
    return path


@contextmanager
def batch_of(rows: int, kind: str, count: int) -> Iterator[Path]:
    """A batch in a file, as long as it is needed."""
    path = make_batch(rows, kind, count)
    try:
        yield path
    finally:
        path.unlink()


# Ours.


def our_run(rows: int, kind: str, count: int, keys: tuple[str, ...]) -> Took:
    """A run of a pipeline: its own time, and the memory of its process."""
    with made_place(rows, keys) as place, batch_of(rows, kind, count) as batch:
        import dagster as dg  # noqa: PLC0415 - after the environment

        from rat_resources.platform import platform  # noqa: PLC0415

        whole = platform()
        with dg.DagsterInstance.get() as instance:
            # The first run of a process imports what the others share.
            shutil.copyfile(batch, place.folder / "batch.parquet")
            run_once(whole, instance)
            with batch_of(rows, kind, count) as other:
                shutil.copyfile(other, place.folder / "batch.parquet")
            with measured() as took:
                seconds = run_once(whole, instance)
        return Took(seconds, took.megabytes)


def run_once(whole: Any, instance: Any) -> float:  # noqa: ANN401 - its module is heavy
    """Run the pipeline; the seconds from its start to its end, as they stand in `rat.runs`."""
    from sqlalchemy import text  # noqa: PLC0415

    from rat_assets import runner  # noqa: PLC0415
    from rat_assets.runner import RunAsk  # noqa: PLC0415

    runner.run(whole, RunAsk((TABLE,)), instance=instance)
    query = text(
        "SELECT status, extract(epoch FROM finished_at - started_at) FROM rat.runs "
        "ORDER BY created_at DESC LIMIT 1"
    )
    with whole.metadata.transaction() as tx:
        status, seconds = tx.execute(query).one()
    if status != "success":
        message = f"the run ended as {status}"
        raise SystemExit(message)
    return float(seconds)


@contextmanager
def made_place(rows: int, keys: tuple[str, ...]) -> Iterator[Place]:
    """A RAT whose table has the generated rows; made once, for all batches of one key."""
    folder = DATA / f"merge-{rows}-{len(keys)}"
    is_there = (folder / "made").exists()
    if folder.exists() and not is_there:
        forget_cluster(Place(folder).home)
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with kept_place(folder) as place:
        if not is_there:
            batch = folder / "batch.parquet"
            shutil.copyfile(sales(rows), batch)
            code = PIPELINE.format(keys=", ".join(keys), batch=batch)
            path = "bench/pipelines/bronze/sales/pipeline.sql"
            command([str(RAT), "publish", str(place.tree({path: code}))])
            command([str(RAT), "run", TABLE])
            (folder / "made").touch()
        yield place


def our_write(rows: int, kind: str, count: int, keys: tuple[str, ...]) -> Took:
    """The write alone: the strategy on a table in a folder, with PyIceberg's own SQL catalog."""
    import duckdb  # noqa: PLC0415

    from rat_resources.lake.strategies import (  # noqa: PLC0415
        MergeStrategy,
        WriteConfig,
        apply,
    )
    from rat_resources.names import TableName  # noqa: PLC0415
    from tests.rat_resources.lake.tables import FolderCatalog  # noqa: PLC0415

    config = WriteConfig(
        MergeStrategy.INCREMENTAL,
        unique_key=tuple(keys),
        watermark_column="updated_at",
    )
    base = DATA / f"rat-{rows}-{len(keys)}"
    catalog = FolderCatalog("bench", uri="sqlite:///:memory:", warehouse=base.as_uri())
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")

        def write(path: Path | str) -> None:
            apply(
                connection,
                query=f"SELECT * FROM read_parquet('{path}')",
                catalog=catalog,
                table_name=TableName("bench", "bronze", "sales"),
                config=config,
                attempt_time=datetime.now(UTC),
            )

        begin_with(catalog, TABLE, base=base, make=lambda: write(sales(rows)))
        with batch_of(rows, kind, count) as batch:
            write(batch)  # the first write of a process imports what the others share
        with batch_of(rows, kind, count) as batch, measured() as took:
            write(batch)
    return took


def begin_with(
    catalog: Any,  # noqa: ANN401 - its module is heavy
    name: str,
    *,
    base: Path,
    make: Callable[[], object],
) -> None:
    """Let a catalog have the table as it was made once; files are never removed there."""
    made = base / "made"
    if not made.exists():
        shutil.rmtree(base, ignore_errors=True)
        base.mkdir(parents=True)
        make()
        made.write_text(catalog.load_table(name).metadata_location)
        return
    *outer, _ = name.split(".")
    for level in range(len(outer)):
        catalog.create_namespace_if_not_exists(tuple(outer[: level + 1]))
    catalog.register_table(name, made.read_text())


@contextmanager
def own_folder() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    folder = DATA / f"peer-{uuid4().hex}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


# The peers.


def duckdb_merge(rows: int, kind: str, count: int, keys: tuple[str, ...]) -> Took:
    """DuckDB's MERGE INTO a table of a database file of its own."""
    import duckdb  # noqa: PLC0415

    base = DATA / f"sales-{rows}.duckdb"
    if not base.exists():
        draft = base.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        with duckdb.connect(str(draft)) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(
                f"CREATE TABLE sales AS FROM read_parquet('{sales(rows)}')"
            )
        draft.rename(base)
    with own_folder() as folder, batch_of(rows, kind, count) as batch:
        shutil.copyfile(base, folder / "sales.duckdb")
        with duckdb.connect(str(folder / "sales.duckdb")) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            with measured() as took:
                connection.execute(
                    f"MERGE INTO sales USING (FROM read_parquet('{batch}')) AS new "
                    f"USING ({', '.join(keys)}) "
                    "WHEN MATCHED THEN UPDATE WHEN NOT MATCHED THEN INSERT"
                )
                connection.execute("CHECKPOINT")
        return took


def pyiceberg_delete_append(
    rows: int, kind: str, count: int, keys: tuple[str, ...]
) -> Took:
    """PyIceberg's delete by key, and append, in one transaction."""
    import pyarrow.parquet as pq  # noqa: PLC0415
    from pyiceberg.expressions import In  # noqa: PLC0415

    is_in: Any = In  # type checkers take it for a pydantic model without a constructor
    del keys  # `id` alone tells the rows apart, and a list of it is the shortest way
    with batch_of(rows, kind, count) as batch:
        there = pyiceberg_table(rows)
        with measured() as took:
            new = pq.read_table(batch)
            with there.transaction() as change:
                change.delete(is_in("id", new.column("id").to_pylist()))
                change.append(new)
        return took


def pyiceberg_upsert(rows: int, kind: str, count: int, keys: tuple[str, ...]) -> Took:
    """PyIceberg's own upsert."""
    import pyarrow.parquet as pq  # noqa: PLC0415

    with batch_of(rows, kind, count) as batch:
        there = pyiceberg_table(rows)
        with measured() as took:
            there.upsert(pq.read_table(batch), join_cols=list(keys))
        return took


def pyiceberg_table(rows: int) -> Any:  # noqa: ANN401 - its module is heavy
    """PyIceberg's own table of the rows."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415
    from pyiceberg.catalog.sql import SqlCatalog  # noqa: PLC0415

    base = DATA / f"pyiceberg-{rows}"
    catalog = SqlCatalog("bench", uri="sqlite:///:memory:", warehouse=base.as_uri())
    catalog.create_namespace_if_not_exists("bench")

    def make() -> None:
        file = pq.ParquetFile(sales(rows))
        there = catalog.create_table("bench.sales", schema=file.schema_arrow)
        for group in file.iter_batches(1_000_000):
            there.append(pa.Table.from_batches([group]))

    begin_with(catalog, "bench.sales", base=base, make=make)
    return catalog.load_table("bench.sales")


if __name__ == "__main__":
    main()
