"""Propagation: from an invalidation to the runs that make it good, hop by hop."""

import random
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from rat_resources import invalidations, propagation, row_filters, wishes
from rat_resources.audit import COMPARISONS, audit, compare
from rat_resources.audit.comparison import Scene
from rat_resources.invalidations import Invalidation
from rat_resources.names import TableName
from rat_resources.propagation import Routed
from rat_resources.row_filters import WHOLE, RowFilter
from rat_sensors import wishes as sensors
from tests.factories import ORDERS, Shop

BRONZE = TableName("shop", "bronze", "orders")
SILVER = TableName("shop", "silver", "orders")
GOLD = TableName("shop", "gold", "revenue")
DEARER = f'SELECT * REPLACE (amount + 1 AS amount) FROM "{BRONZE}"'


def invalidate(
    shop: Shop,
    table: TableName = BRONZE,
    *,
    rows: RowFilter = WHOLE,
    columns: tuple[str, ...] = (),
) -> uuid.UUID:
    """An invalidation by hand, whose readers are told."""
    with shop.whole.metadata.transaction() as tx:
        made = invalidations.invalidate(
            tx, table, reason="manual", rows=rows, columns=columns
        )
        assert made is not None
        propagation.route(tx, ids=[made])
    return made


def route(shop: Shop) -> Routed:
    with shop.whole.metadata.transaction() as tx:
        return propagation.route(tx)


def planned(shop: Shop) -> list[tuple[str, list[str]]]:
    """The runs that the wishes ask for: their label and their tables."""
    with shop.whole.metadata.transaction() as tx:
        graph = sensors.graph_of(tx)
        asks = wishes.plan(wishes.due(tx), graph=graph, active=()).asks
    return [(ask.label, [str(table) for table in ask.selection]) for ask in asks]


def run_planned(shop: Shop) -> list[str]:
    """Run what is asked for until nothing is; the tables in the order of their runs."""
    ran = []
    while asked := planned(shop):
        for label, tables in asked:
            shop.run(*tables, trigger=label)
            ran += tables
    return ran


def rows_of(shop: Shop) -> list[Any]:
    """Every invalidation, the oldest first."""
    with shop.whole.metadata.transaction() as tx:
        return list(
            tx.execute(
                text("""
                SELECT
                    told.*,
                    dataset.name AS dataset,
                    ARRAY(
                        SELECT job.name FROM trace.jobs AS job
                        WHERE job.id = ANY(told.processed_by) ORDER BY 1
                    ) AS done_by
                FROM trace.data_invalidations AS told
                JOIN trace.datasets AS dataset ON dataset.id = told.dataset_uuid
                ORDER BY told.created_at
                """)
            )
        )


def statuses(shop: Shop) -> list[tuple[str, bool, list[str]]]:
    return [
        (row.dataset, row.processed_at is not None, row.done_by)
        for row in rows_of(shop)
    ]


def test_the_direct_dependents_run_once_and_tell_theirs(open_shop: Shop) -> None:
    open_shop.correct(str(BRONZE), DEARER)
    made = invalidate(open_shop)

    first = planned(open_shop)
    ran = run_planned(open_shop)

    assert first == [(f"invalidation:{made}", ["shop.silver.orders"])]
    assert ran == ["shop.silver.orders", "shop.gold.revenue"]
    assert statuses(open_shop) == [
        ("shop.bronze.orders", True, ["silver.orders"]),
        ("shop.silver.orders", True, ["gold.revenue"]),
        ("shop.gold.revenue", True, []),
    ]


def test_a_child_knows_its_parent_its_root_and_the_snapshots(open_shop: Shop) -> None:
    open_shop.correct(str(BRONZE), DEARER)
    made = invalidate(open_shop)

    run_planned(open_shop)

    _, silver, gold = rows_of(open_shop)
    assert silver.source_event["parent"] == silver.source_event["root"] == str(made)
    assert silver.source_event["hop"] == 1
    assert gold.source_event["parent"] == str(silver.id)
    assert gold.source_event["root"] == str(made)
    assert gold.source_event["hop"] == 2
    assert (
        silver.source_event["snapshot_before"]["snapshot_id"]
        != silver.source_event["snapshot_after"]
    )
    with open_shop.whole.metadata.transaction() as tx:
        (told,) = invalidations.by_id(tx, [silver.id])
    assert told.snapshot_before is not None
    assert told.snapshot_before.table == SILVER


def test_a_hundred_invalidations_are_one_run(open_shop: Shop) -> None:
    for _ in range(100):
        invalidate(open_shop, SILVER)

    (asked,) = planned(open_shop)
    ran = run_planned(open_shop)

    assert asked[1] == ["shop.gold.revenue"]
    assert ran == ["shop.gold.revenue"]
    assert all(done for _, done, _ in statuses(open_shop))


def test_the_task_of_the_run_says_which_invalidation_it_is_for(open_shop: Shop) -> None:
    made = invalidate(open_shop, SILVER)

    run_planned(open_shop)

    with open_shop.whole.metadata.transaction() as tx:
        found = tx.execute(
            text("SELECT dedupe_key FROM trace.tasks WHERE invalidation_id = :id"),
            {"id": made},
        )
        assert [row.dedupe_key for row in found] == [f"invalidation:{made}"]


def test_what_nobody_reads_is_over_at_once(open_shop: Shop) -> None:
    invalidate(open_shop, GOLD)

    assert statuses(open_shop) == [("shop.gold.revenue", True, [])]
    assert planned(open_shop) == []


def test_an_ordinary_run_that_makes_the_table_anew_is_enough(open_shop: Shop) -> None:
    invalidate(open_shop, SILVER)

    open_shop.run("shop.gold.revenue")

    assert planned(open_shop) == []
    assert statuses(open_shop)[0] == ("shop.silver.orders", True, ["gold.revenue"])


def test_an_ordinary_run_that_reads_only_what_is_new_leaves_them(
    open_shop: Shop,
) -> None:
    only = {"customer": "ann"}
    types = {"customer": "varchar"}
    invalidate(open_shop, rows=row_filters.parse(only, columns=types))

    open_shop.run("shop.silver.orders")

    assert [tables for _, tables in planned(open_shop)] == [["shop.silver.orders"]]


def test_an_ordinary_run_makes_all_anew_where_all_is_wrong(open_shop: Shop) -> None:
    invalidate(open_shop)
    open_shop.land("second.csv", "id,customer,amount\n3,cid,30\n")

    open_shop.run()

    assert statuses(open_shop) == [
        ("shop.bronze.orders", True, ["silver.orders"]),
        ("shop.silver.orders", True, ["gold.revenue"]),
        ("shop.gold.revenue", True, []),
    ]
    assert planned(open_shop) == []
    assert len(open_shop.rows("shop.gold.revenue")) == 3


def test_a_run_that_comes_too_late_does_nothing(open_shop: Shop) -> None:
    made = invalidate(open_shop, SILVER)
    open_shop.run("shop.gold.revenue")
    before = open_shop.main

    report = open_shop.run("shop.gold.revenue", trigger=f"invalidation:{made}")

    assert [each.status for each in report.tables] == ["unchanged"]
    assert open_shop.main == before


def test_what_a_failed_run_leaves_waits_for_a_new_version(open_shop: Shop) -> None:
    broken = "SELECT customer, amount / 0 AS revenue, error('no') AS e FROM {{ ref('silver.orders') }}"
    good = "SELECT customer, 2 * amount AS revenue FROM {{ ref('silver.orders') }}"
    open_shop.publish({"shop/pipelines/gold/revenue/pipeline.sql": broken})
    made = invalidate(open_shop, SILVER)
    open_shop.run("shop.gold.revenue", trigger=f"invalidation:{made}")

    left = planned(open_shop)
    open_shop.publish({"shop/pipelines/gold/revenue/pipeline.sql": good})
    route(open_shop)
    ran = run_planned(open_shop)

    assert left == []
    assert ran == ["shop.gold.revenue"]
    assert statuses(open_shop)[0] == ("shop.silver.orders", True, ["gold.revenue"])


def test_a_run_that_makes_all_anew_also_does_what_a_failed_one_left(
    open_shop: Shop,
) -> None:
    made = invalidate(open_shop, SILVER)
    with open_shop.whole.metadata.transaction() as tx:
        tx.execute(text("UPDATE rat.wishes SET state = 'held' WHERE label LIKE 'inv%'"))

    open_shop.run("shop.gold.revenue", full_refresh=True)

    (row,) = [row for row in rows_of(open_shop) if row.id == made]
    assert row.processed_at is not None


def test_a_dependent_that_a_release_removes_is_waited_for_no_longer(
    open_shop: Shop,
) -> None:
    invalidate(open_shop, SILVER)
    open_shop.publish(
        {"shop/pipelines/gold/revenue/pipeline.sql": "SELECT 1 AS revenue"}
    )

    route(open_shop)

    assert statuses(open_shop) == [("shop.silver.orders", True, [])]


def test_a_row_of_sql_is_told_too(open_shop: Shop) -> None:
    insert(open_shop, scope="row_range", row_filter='{"customer": "ann"}')

    routed = route(open_shop)

    assert (routed.seen, routed.told, routed.problems) == (1, 1, [])
    assert [tables for _, tables in planned(open_shop)] == [["shop.silver.orders"]]


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"row_filter": '{"custmer": 1}'}, "did you mean 'customer'?"),
        ({"row_filter": '{"id": {"~": 1}}'}, "no operator"),
        ({"row_filter": '{"id": "x"}'}, "does not compare"),
        (
            {"row_filter": "{}", "source_event": '{"columns": ["nobody"]}'},
            "the column 'nobody' is not there",
        ),
        ({"row_filter": "{}", "source_event": '{"hop": 900}'}, "900 tables away"),
    ],
)
def test_a_row_that_makes_no_sense_is_told_once_and_bars_nobody(
    open_shop: Shop, said: dict[str, str], problem: str
) -> None:
    insert(open_shop, **said)
    insert(open_shop, row_filter="{}")

    first, second = route(open_shop), route(open_shop)

    assert problem in first.problems[0].what
    assert len(first.problems) == 1
    assert second.problems == []
    assert second.seen == 0
    assert [tables for _, tables in planned(open_shop)] == [["shop.silver.orders"]]


def test_a_generation_that_is_not_served_is_kept_and_not_told(open_shop: Shop) -> None:
    insert(open_shop, row_filter="{}")
    path = "shop/pipelines/bronze/orders/pipeline.sql"
    open_shop.publish({path: ORDERS[path].replace("SELECT *", "SELECT *, 1 AS one")})

    routed = route(open_shop)

    assert routed.told == 0
    assert statuses(open_shop) == [("shop.bronze.orders", False, [])]


def test_a_dependent_that_reads_none_of_the_columns_is_done_without_a_run(
    open_shop: Shop,
) -> None:
    path = "shop/pipelines/gold/revenue/pipeline.sql"
    open_shop.publish({path: "SELECT customer FROM {{ ref('silver.orders') }}"})
    insert(open_shop, dataset=str(SILVER), source_event='{"columns": ["AMOUNT"]}')
    unknown = route(open_shop)
    run_planned(open_shop)
    insert(open_shop, dataset=str(SILVER), source_event='{"columns": ["AMOUNT"]}')
    insert(open_shop, dataset=str(SILVER), source_event='{"columns": ["customer"]}')

    known = route(open_shop)

    assert (unknown.told, unknown.spared) == (1, 0)
    assert (known.told, known.spared) == (1, 1)
    _, _, amount, customer = statuses(open_shop)
    assert amount == ("shop.silver.orders", True, ["gold.revenue"])
    assert customer == ("shop.silver.orders", False, [])


def insert(shop: Shop, **said: str) -> None:
    """An invalidation of the bronze orders, as somebody writes it in SQL."""
    row = {
        "dataset": str(BRONZE),
        "scope": "row_range",
        "reason": "correction",
        "row_filter": "{}",
    } | said
    columns, values = ", ".join(row), ", ".join(f":{name}" for name in row)
    casts = values.replace(":row_filter", "CAST(:row_filter AS jsonb)").replace(
        ":source_event", "CAST(:source_event AS jsonb)"
    )
    with shop.whole.metadata.transaction() as tx:
        tx.execute(
            text(
                f"INSERT INTO trace_by_name.data_invalidations ({columns}) VALUES ({casts})"
            ),
            row,
        )


def test_a_run_tells_what_it_takes(open_shop: Shop) -> None:
    ann = row_filters.parse({"customer": "ann"}, columns={"customer": "varchar"})
    made = invalidate(open_shop, rows=ann, columns=("amount",))
    with open_shop.whole.metadata.transaction() as tx:
        run_id = tx.execute(text("SELECT id FROM rat.runs LIMIT 1")).scalar_one()
        tx.execute(
            text(
                "UPDATE rat.wishes SET state = 'taken', run_id = :run WHERE label = :label"
            ),
            {"run": run_id, "label": f"invalidation:{made}"},
        )

        found: list[Invalidation] = invalidations.taken(tx, run_id)

    (told,) = found
    assert (told.id, told.table, told.reason) == (made, BRONZE, "manual")
    assert told.filter.to_json() == {"customer": "ann"}
    assert told.columns == ("amount",)
    assert told.snapshot_before is None


# What holds whatever happens.

CHECKED = tuple(
    each
    for each in COMPARISONS
    if "invalidation" in each.name or each.name in ("trace.told_readers", "rat.wishes")
)


def test_an_invalidation_is_over_when_all_its_dependents_are(
    open_shop: Shop,
) -> None:
    chance = random.Random(1)  # noqa: S311 - no secret

    for _ in range(8):
        chance.choice([rewrite, invalidate_some, publish_anew, run_one, run_one])(
            open_shop, chance
        )
        assert list(audit(open_shop.whole, only=CHECKED).lines) == []
    route(open_shop)
    run_planned(open_shop)

    assert list(audit(open_shop.whole, only=CHECKED).lines) == []
    assert all(row.processed_at for row in rows_of(open_shop))
    expected = open_shop.rows(str(GOLD))
    open_shop.run(str(GOLD), full_refresh=True)
    assert open_shop.rows(str(GOLD)) == expected


def rewrite(shop: Shop, chance: random.Random) -> None:
    """Somebody else changes rows on main, and it is noticed."""
    table = chance.choice([BRONZE, SILVER])
    shop.correct(str(table), f'SELECT * REPLACE (amount + id AS amount) FROM "{table}"')
    invalidate(shop, table)


def invalidate_some(shop: Shop, chance: random.Random) -> None:
    """A person says that rows are wrong."""
    who = row_filters.parse({"id": [chance.randint(1, 3)]}, columns={"id": "bigint"})
    invalidate(shop, chance.choice([BRONZE, SILVER, GOLD]), rows=who)


def publish_anew(shop: Shop, chance: random.Random) -> None:
    """A release changes the last table."""
    path = "shop/pipelines/gold/revenue/pipeline.sql"
    shop.publish({path: f"{ORDERS[path]}-- {chance.random()}\n"})


def run_one(shop: Shop, _chance: random.Random) -> None:
    """The next run that is due, if there is one."""
    for label, tables in planned(shop)[:1]:
        shop.run(*tables, trigger=label)


def test_the_audit_names_what_is_not_so(open_shop: Shop) -> None:
    open_shop.correct(str(BRONZE), DEARER)
    invalidate(open_shop)
    run_planned(open_shop)

    said = {wrong: list(lines_after(open_shop, wrong)) for wrong in WRONG}

    for wrong, expected in WRONG.items():
        assert any(expected in name for name in said[wrong]), wrong


WRONG = {
    "UPDATE trace.data_invalidations SET processed_by = '{}'": "closed_invalidations",
    "UPDATE trace.data_invalidations SET source_event = '{}'": "data_invalidations",
    "UPDATE trace.data_invalidations SET processed_at = NULL": "open_invalidations",
    "UPDATE trace.data_invalidations SET processed_at = NULL, processed_by = '{}'": (
        "told_readers"
    ),
}


def lines_after(shop: Shop, statement: str) -> Iterator[str]:
    """The comparisons that find a difference after a statement, which is taken back."""
    with shop.whole.metadata.transaction() as tx:
        tx.execute(text(statement))
        scene = Scene(shop.whole, tx, head=shop.main, branches=())
        for each in CHECKED:
            if compare(scene, each, at_most=1).total:
                yield each.name
        tx.rollback()
