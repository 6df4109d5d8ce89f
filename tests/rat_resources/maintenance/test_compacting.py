"""Compacting: the same rows in fewer files, in the order in which they were written."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from duckdb import DuckDBPyConnection
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from rat_resources.lake import planning
from rat_resources.lake.committing import original_snapshot
from rat_resources.lake.partitioning import PartitionField
from rat_resources.lake.positions import write_deletes
from rat_resources.lake.reading import FILE, POSITION, register_table, row_count
from rat_resources.lake.rebasing import is_plain
from rat_resources.lake.sorting import SortField
from rat_resources.lake.target import open_target
from rat_resources.lake.writing import write_files
from rat_resources.maintenance import compacting
from rat_resources.maintenance.expiring import expire
from rat_resources.maintenance.plans import Layout, TablePlan, Why
from rat_resources.maintenance.plans import plan as plan_table
from rat_resources.places import Place
from tests.rat_resources.lake.readers import by_duckdb, by_pyiceberg
from tests.rat_resources.lake.tables import (
    NAME,
    load,
    make_catalog,
    make_config,
    make_connection,
    read,
    values,
    write,
)

pytestmark = pytest.mark.parametrize("place", ["a folder"], indirect=True)

APPEND = make_config("append_only")
BY_PART = make_config("append_only", partition_by=[PartitionField("part")])
LATER = datetime.now(UTC) + timedelta(days=8)


@pytest.fixture
def catalog(place: Place) -> Catalog:
    return make_catalog(place)


@pytest.fixture
def connection() -> DuckDBPyConnection:
    return make_connection()


def plan(table: Table, *, now: datetime | None = None, **layout: Any) -> TablePlan:  # noqa: ANN401
    return plan_table(
        NAME, table, layout=Layout(**layout), now=now or datetime.now(UTC)
    )


def compact(connection: DuckDBPyConnection, table: Table, **layout: Any) -> Table:  # noqa: ANN401
    """Do what is planned for the table."""
    planned = plan(table, **layout)
    rewritten = [
        compacting.rewrite(connection, table, each, layout=planned.layout)
        for each in planned.bins
    ]
    return compacting.commit(table, rewritten)


def append(connection: DuckDBPyConnection, table: Table, query: str) -> Table:
    """Add a file with the rows of a query."""
    files = write_files(connection, query, metadata=table.metadata, io=table.io)
    committed = open_target(table).commit(added=files, removed=())
    assert committed is not None
    return committed


def in_order(connection: DuckDBPyConnection, table: Table) -> list[tuple[Any, ...]]:
    """The rows as they are read."""
    register_table(connection, table, view="them")
    return connection.execute("SELECT * FROM them").fetchall()


def scatter(connection: DuckDBPyConnection, catalog: Catalog) -> Table:
    """Five small files, a large one, and five small ones more."""
    for number in range(5):
        write(connection, catalog, values([(-number, "x")], "id, v"), config=APPEND)
    table = append(
        connection,
        load(catalog),
        "SELECT range::INTEGER AS id, md5(range::VARCHAR) AS v FROM range(2000)",
    )
    for number in range(5):
        table = append(connection, table, values([(9000 - number, "y")], "id, v"))
    with table.transaction() as transaction:
        transaction.set_properties({"write.target-file-size-bytes": "40000"})
    return load(catalog)


def test_rows_keep_the_order_in_which_they_were_written(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    table = scatter(connection, catalog)
    before = in_order(connection, table)

    after = compact(connection, table)

    assert len(planning.plan(after.metadata, io=after.io)) == 3
    assert in_order(connection, after) == before
    assert plan(after).bins == ()
    assert sorted(before) == sorted(by_pyiceberg(after)) == sorted(by_duckdb(after))


def test_it_is_a_plain_snapshot_that_shows_what_the_one_before_showed(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    table = scatter(connection, catalog)

    after = compact(connection, table)

    snapshot = after.current_snapshot()
    assert snapshot is not None
    assert is_plain(snapshot)
    assert original_snapshot(after.metadata) == original_snapshot(table.metadata)
    assert row_count(after) == row_count(table)


def test_dead_rows_are_left_out_and_so_are_the_files_that_say_so(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    rows = [(n, p) for p in "ab" for n in range(10)]
    write(connection, catalog, values(rows, "id, part"), config=BY_PART)
    table = load(catalog)
    tasks = dict(enumerate(planning.plan(table.metadata, io=table.io)))
    connection.execute(
        f"CREATE TEMP TABLE dying AS SELECT 0::BIGINT AS {FILE}, "
        f"range AS {POSITION} FROM range(4)"
    )
    target = open_target(table)
    marks = write_deletes(connection, "dying", tasks={0: tasks[0]}, target=target)
    target.commit(added=(), removed=(), deletes=marks.added, rows=16)
    table, alive = load(catalog), read(connection, catalog)
    planned = plan(table)

    after = compact(connection, table)

    assert planned.why == {Why.DEAD: 1}
    assert [each.dead for each in planned.bins] == [4]
    assert read(connection, catalog) == alive == sorted(by_pyiceberg(after))
    summary = after.current_snapshot().summary  # type: ignore[union-attr]
    assert summary["total-delete-files"] == "0"  # type: ignore[index]
    assert is_plain(after.current_snapshot())  # type: ignore[arg-type]
    assert plan(after).is_empty


def test_rows_lie_sorted_where_the_table_is(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    table = scatter(connection, catalog)

    after = compact(
        connection, table, order=(SortField("id", descending=True),), keeps_order=False
    )

    tasks = planning.plan(after.metadata, io=after.io)
    small = [each for each in tasks if each.file.record_count == 10]
    assert len(small) == 1
    ids = [row[0] for row in in_order(connection, after)]
    assert [n for n in ids if n > 8000 or n < 0] == sorted(
        (n for n in ids if n > 8000 or n < 0), reverse=True
    )


def test_old_snapshots_are_forgotten_and_what_is_shown_is_not(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    table = scatter(connection, catalog)
    snapshots = [each.snapshot_id for each in table.metadata.snapshots]
    table.manage_snapshots().create_tag(snapshots[2], "audited").commit()
    rows = in_order(connection, load(catalog))

    after = expire(load(catalog), plan(load(catalog), now=LATER))

    assert {each.snapshot_id for each in after.metadata.snapshots} == {
        snapshots[2],
        *snapshots[-2:],
    }
    assert in_order(connection, after) == rows
    assert not plan(table).expired
    assert not plan(table, now=LATER, retention=None).expired


def test_few_small_files_beside_a_large_one_are_not_worth_it(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    for number in range(4):
        write(connection, catalog, values([(number, "x")], "id, v"), config=APPEND)

    assert plan(load(catalog)).is_empty
