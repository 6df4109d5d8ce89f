"""Versions of data: what each run made and read, exactly, and what is stale since."""

from typing import Any

import pytest
from sqlalchemy import text

from rat_resources.names import TableName
from rat_resources.runs import Pin
from rat_resources.versions import find_versions, look_back
from tests.factories import Shop
from tests.hooks import when

DAYS = "shop/pipelines/bronze/days"
GOLD = "shop/pipelines/gold/total"
TREE = {
    f"{DAYS}/pipeline.sql": (
        "FROM read_csv('{{ landing_zone('days', new=true) }}/*.csv', "
        "columns = {'day': 'VARCHAR', 'n': 'INTEGER'})"
    ),
    f"{DAYS}/config.yaml": "merge_strategy: snapshot\npartition_column: day\n",
    f"{GOLD}/pipeline.sql": "SELECT sum(n) AS n FROM {{ ref('bronze.days') }}",
}


@pytest.fixture
def days(shop: Shop) -> Shop:
    """A shop with two days in bronze, and their sum in gold."""
    shop.publish(TREE)
    land(shop, "a", "mon,1", "tue,2")
    assert shop.run().succeeded
    return shop


def land(shop: Shop, name: str, *rows: str) -> None:
    """Put a file of days into the landing zone."""
    shop.land(f"{name}.csv", "\n".join(["day,n", *rows]) + "\n", zone="shop/days")


def ask(shop: Shop, statement: str, **values: Any) -> list[Any]:  # noqa: ANN401
    """The rows of a statement."""
    with shop.whole.metadata.transaction() as tx:
        return list(tx.execute(text(statement), values))


def partitions(shop: Shop, dataset: str = "shop.bronze.days") -> dict[str, Any]:
    """The partitions of a dataset, by name: (version, rows)."""
    found = ask(
        shop,
        "SELECT partition_key, version, row_count FROM trace_by_name.partition_versions"
        " WHERE dataset = :dataset",
        dataset=dataset,
    )
    return {key: (version, rows) for key, version, rows in found}


def newest_inputs(shop: Shop) -> dict[str, Any]:
    """What the newest completed task of gold had read: versions by partition."""
    found = ask(
        shop,
        "SELECT input_partition, input_version FROM trace_by_name.task_inputs"
        " WHERE task_id = (SELECT task.id FROM trace.tasks AS task"
        " JOIN trace.jobs AS job ON job.id = task.job_id WHERE job.name = 'gold.total'"
        " AND status = 'Completed' ORDER BY completed_at DESC LIMIT 1)",
    )
    return {key: version for key, version in found}


def stale(shop: Shop) -> set[tuple[str, str]]:
    """What is stale: the dataset, and why."""
    rows = ask(shop, "SELECT * FROM trace.staleness WHERE is_stale")
    reasons = ("by_code", "by_data", "by_invalidation")
    return {
        (row.dataset, reason)
        for row in rows
        for reason in reasons
        if getattr(row, reason)
    }


def test_a_run_gives_a_version_to_the_partitions_that_it_wrote(days: Shop) -> None:
    before = partitions(days)
    land(days, "b", "tue,3", "tue,4", "wed,5")

    days.run("shop.bronze.days")

    after = partitions(days)
    assert {key: rows for key, (_, rows) in before.items()} == {"mon": 1, "tue": 1}
    assert {key: rows for key, (_, rows) in after.items()} == {
        "mon": 1,
        "tue": 2,
        "wed": 1,
    }
    assert after["mon"] == before["mon"]
    assert after["tue"][0] == after["wed"][0] > before["tue"][0]
    ((published,),) = ask(
        days,
        "SELECT published_at FROM rat.publications ORDER BY published_at DESC LIMIT 1",
    )
    assert after["wed"][0] == published


def test_a_run_that_finds_nothing_new_gives_no_version(days: Shop) -> None:
    before = partitions(days)

    days.run("shop.bronze.days")

    assert partitions(days) == before


def test_a_partition_that_is_gone_has_no_version(days: Shop) -> None:
    land(days, "b", "wed,5")

    days.run("shop.bronze.days", full_refresh=True)

    assert partitions(days).keys() == {"wed", "mon", "tue"} & partitions(days).keys()
    rows = {row[0] for row in days.rows("shop.bronze.days")}
    assert partitions(days).keys() == rows


def test_a_new_generation_brings_along_what_it_left_alone(days: Shop) -> None:
    before = partitions(days)
    days.publish(TREE | {f"{DAYS}/pipeline.sql": TREE[f"{DAYS}/pipeline.sql"] + " "})
    days.publish(
        TREE | {f"{DAYS}/pipeline.sql": TREE[f"{DAYS}/pipeline.sql"] + " WHERE n > 0"}
    )
    land(days, "b", "tue,3")

    days.run("shop.bronze.days")

    after = partitions(days)
    assert after.keys() == before.keys()
    assert after["mon"] == before["mon"]
    assert after["tue"] > before["tue"]
    assert ("shop.bronze.days", "by_code") in stale(days)  # Monday, of the old code


def test_what_a_run_read_is_what_stood_at_its_commit(days: Shop) -> None:
    pinned = partitions(days)
    land(days, "b", "tue,3")

    # Another publication lands after the pins, before the end.
    with when("write", lambda: days.run("shop.bronze.days"), says=""):
        days.run("shop.gold.total")

    assert newest_inputs(days) == {key: version for key, (version, _) in pinned.items()}
    assert partitions(days)["tue"][0] > pinned["tue"][0]
    assert stale(days) == {("shop.gold.total", "by_data")}


def test_a_table_that_moved_on_before_it_was_looked_at_is_known_by_its_publications(
    days: Shop,
) -> None:
    table = TableName.parse("shop.bronze.days")
    location = days.whole.lake.tables([table])[table].metadata_location
    stood = {key: version for key, (version, _) in partitions(days).items()}
    land(days, "b", "tue,3", "wed,4")
    days.run("shop.bronze.days")

    pin = Pin(table, location, None)
    with days.whole.metadata.transaction() as tx:
        found = find_versions(tx, [pin, Pin(table, "file:///nobody's", None)][:1])
        unknown = look_back(tx, Pin(table, "file:///nobody's", None))

    assert found == {table: stood}
    assert unknown == {}


def test_what_is_run_again_is_no_longer_stale(days: Shop) -> None:
    land(days, "b", "tue,3")
    days.run("shop.bronze.days")
    behind = stale(days)

    days.run("shop.gold.total")

    assert behind == {("shop.gold.total", "by_data")}
    assert stale(days) == set()


def test_an_invalidation_makes_what_reads_the_table_stale(days: Shop) -> None:
    with days.whole.metadata.transaction() as tx:
        tx.execute(
            text(
                "INSERT INTO trace_by_name.data_invalidations"
                " (dataset, scope, partition_key, reason)"
                " VALUES ('shop.bronze.days', 'partition', 'mon', 'manual')"
            )
        )

    assert stale(days) == {("shop.gold.total", "by_invalidation")}
