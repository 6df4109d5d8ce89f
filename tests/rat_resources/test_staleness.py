"""Staleness: what would be made otherwise now, and what would not, however it looks."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import text

from rat_resources import propagation, releases, staleness
from rat_resources.names import TableName
from rat_resources.staleness import Stale, Why
from tests.factories import ORDERS, Shop

BRONZE, SILVER, GOLD = "shop.bronze.orders", "shop.silver.orders", "shop.gold.revenue"
NUMBERS = "shop/pipelines/bronze/numbers"
VIEW = "shop/pipelines/silver/small"
TOP = "shop/pipelines/gold/top"
THROUGH_A_VIEW = {
    f"{NUMBERS}/pipeline.sql": "SELECT range AS n FROM range(3)",
    f"{VIEW}/pipeline.sql": (
        "-- @materialized: view\nSELECT n FROM {{ ref('bronze.numbers') }} WHERE n < 9"
    ),
    f"{TOP}/pipeline.sql": "SELECT max(n) AS n FROM {{ ref('silver.small') }}",
}


def stale(shop: Shop) -> Mapping[TableName, Stale]:
    """What is stale."""
    with shop.whole.metadata.transaction() as tx:
        return staleness.load(tx)


def causes(shop: Shop) -> dict[str, list[tuple[str, str | None]]]:
    """The reasons of each stale table: why, and the input."""
    return {
        str(table): [(each.why.value, each.input) for each in found.causes]
        for table, found in stale(shop).items()
    }


def more(shop: Shop, name: str = "more.csv") -> None:
    """One more order."""
    shop.land(name, f"id,customer,amount\n{len(name)},eve,3\n")


def published(shop: Shop, table: str) -> list[datetime]:
    """When a table was published."""
    with shop.whole.metadata.transaction() as tx:
        return list(
            tx.scalars(
                text("""
                    SELECT finished_at FROM rat.runs JOIN rat.pipelines AS p
                        ON p.id = pipeline_id AND concat_ws('.', namespace, layer, name) = :table
                    WHERE status = 'success' ORDER BY finished_at
                """),
                {"table": table},
            )
        )


def test_nothing_is_stale_after_a_run_of_all(open_shop: Shop) -> None:
    assert causes(open_shop) == {}


def test_a_file_that_was_not_read_makes_its_reader_stale(open_shop: Shop) -> None:
    more(open_shop)
    open_shop.notice()

    assert causes(open_shop) == {BRONZE: [("data", "shop.landing.orders")]}


def test_a_table_is_stale_since_the_first_publication_that_it_has_not_read(
    open_shop: Shop,
) -> None:
    for name in ("second.csv", "the third.csv"):
        more(open_shop, name)
        open_shop.run(BRONZE)

    (found,) = stale(open_shop).values()

    assert causes(open_shop) == {SILVER: [("data", BRONZE)]}
    assert found.since == published(open_shop, BRONZE)[1]
    assert found.made_at == published(open_shop, SILVER)[0]
    assert found.words == f"{BRONZE} has rows that it has not read"


def test_what_has_read_the_news_is_current_though_its_own_rows_are_old(
    open_shop: Shop,
) -> None:
    more(open_shop)
    open_shop.run(BRONZE)
    open_shop.run(SILVER)

    assert causes(open_shop) == {GOLD: [("data", SILVER)]}


def test_an_input_that_was_published_unchanged_makes_nothing_stale(
    open_shop: Shop,
) -> None:
    open_shop.run(BRONZE)

    assert open_shop.runs()[-1].unchanged
    assert causes(open_shop) == {}


def test_a_partition_that_is_gone_is_news(shop: Shop) -> None:
    days = "shop/pipelines/bronze/days"
    two = "SELECT * FROM (VALUES ('mon', 1), ('tue', 2)) AS d(day, n)"
    tree = {
        f"{days}/pipeline.sql": two,
        f"{days}/config.yaml": "merge_strategy: delete_insert\nunique_key: [day]\n"
        "partition_column: day\n",
        f"{TOP}/pipeline.sql": "SELECT sum(n) AS n FROM {{ ref('bronze.days') }}",
    }
    shop.publish(tree)
    shop.run()
    shop.publish({f"{days}/pipeline.sql": f"{two} WHERE n = 1"})

    shop.run("shop.bronze.days", full_refresh=True)

    assert causes(shop) == {"shop.gold.top": [("data", "shop.bronze.days")]}


def test_a_changed_definition_makes_the_table_stale_and_nothing_below_it(
    open_shop: Shop,
) -> None:
    path = "shop/pipelines/silver/orders/pipeline.sql"
    open_shop.publish(
        {path: ORDERS[path].replace("customer,", "upper(customer) AS customer,")}
    )

    (found,) = stale(open_shop).values()

    assert (str(found.table), found.words) == (SILVER, "its definition changed")
    assert found.since > published(open_shop, SILVER)[0]


def test_another_description_is_no_other_definition(open_shop: Shop) -> None:
    path = "shop/pipelines/gold/revenue/pipeline.sql"
    open_shop.publish({path: f"-- @description: By customer\n{ORDERS[path]}"})

    assert causes(open_shop) == {}


def test_partitions_that_another_definition_made_are_stale_until_all_are_made_anew(
    open_shop: Shop,
) -> None:
    path = "shop/pipelines/silver/orders/pipeline.sql"
    config = "shop/pipelines/silver/orders/config.yaml"
    open_shop.publish({config: "partition_by:\n  - column: customer\n"})
    open_shop.run(SILVER, full_refresh=True)
    open_shop.publish({path: ORDERS[path].replace("DECIMAL(12, 2)", "DECIMAL(14, 2)")})
    more(open_shop)
    open_shop.run(BRONZE)

    open_shop.run(SILVER)  # Eve alone
    partly = causes(open_shop)[SILVER]
    open_shop.run(SILVER, full_refresh=True)

    assert partly == [("definition", None)]
    assert SILVER not in causes(open_shop)


def test_what_was_never_made_is_stale_since_it_was_published(shop: Shop) -> None:
    shop.publish(THROUGH_A_VIEW)

    found = stale(shop)

    assert {str(table): each.words for table, each in found.items()} == {
        "shop.bronze.numbers": "nothing has made it yet",
        "shop.silver.small": "nothing has made it yet",
        "shop.gold.top": "nothing has made it yet",
    }


def test_news_come_through_a_view_which_is_never_older_than_they_are(
    shop: Shop,
) -> None:
    shop.publish(THROUGH_A_VIEW)
    shop.run()
    shop.publish({f"{NUMBERS}/pipeline.sql": "SELECT range AS n FROM range(5)"})
    shop.run("shop.bronze.numbers")

    assert causes(shop) == {"shop.gold.top": [("data", "shop.bronze.numbers")]}


def test_a_view_that_changed_is_stale_and_so_are_its_readers(shop: Shop) -> None:
    shop.publish(THROUGH_A_VIEW)
    shop.run()
    view = f"{VIEW}/pipeline.sql"
    shop.publish({view: THROUGH_A_VIEW[view].replace("n < 9", "n < 2")})

    changed = causes(shop)
    shop.run("shop.silver.small", "shop.gold.top")

    assert changed == {
        "shop.silver.small": [("definition", None)],
        "shop.gold.top": [("definition", "shop.silver.small")],
    }
    assert causes(shop) == {}


def test_a_retired_pipeline_is_not_stale(open_shop: Shop) -> None:
    more(open_shop)
    open_shop.run(BRONZE)
    open_shop.run(SILVER)
    with open_shop.whole.metadata.transaction() as tx:
        releases.retire(tx, [TableName.parse(GOLD)])

    assert causes(open_shop) == {}


def test_a_pipeline_that_nothing_starts_is_stale_all_the_same(open_shop: Shop) -> None:
    open_shop.publish({"shop/pipelines/gold/revenue/config.yaml": "automation: none\n"})
    more(open_shop)
    open_shop.run(BRONZE)
    open_shop.run(SILVER)

    assert causes(open_shop) == {GOLD: [("data", SILVER)]}


def test_an_invalidation_makes_its_readers_stale_until_they_have_done_with_it(
    open_shop: Shop,
) -> None:
    with open_shop.whole.metadata.transaction() as tx:
        tx.execute(INVALIDATE, {"dataset": SILVER})
        propagation.route(tx)
    (found,) = stale(open_shop).values()

    open_shop.run(GOLD, full_refresh=True)

    assert (str(found.table), found.words) == (
        GOLD,
        f"rows of {SILVER} were invalidated",
    )
    assert [each.why for each in found.causes] == [Why.INVALIDATION]
    assert len(found.invalidations) == 1
    assert causes(open_shop) == {}


def test_a_run_that_made_good_some_rows_has_not_read_the_news(open_shop: Shop) -> None:
    more(open_shop)
    open_shop.run(BRONZE)

    only_wrong = {"trigger": "invalidation:00000000-0000-0000-0000-000000000000"}
    open_shop.run(SILVER, **only_wrong)

    assert causes(open_shop)[SILVER] == [("data", BRONZE)]


def test_what_an_invalidation_made_of_an_input_is_no_news_to_who_has_done_with_it(
    open_shop: Shop,
) -> None:
    more(open_shop)
    open_shop.run(BRONZE)
    with open_shop.whole.metadata.transaction() as tx:
        tx.execute(
            text("""
                UPDATE rat.runs SET trigger = 'invalidation:x' WHERE id = (
                    SELECT run_id FROM rat.publications ORDER BY created_at DESC LIMIT 1
                )
            """)
        )
    waiting = causes(open_shop)[SILVER]

    open_shop.run(SILVER, trigger="invalidation:y")

    assert waiting == [("data", BRONZE)]
    assert SILVER not in causes(open_shop)


def test_an_invalidation_that_makes_no_sense_makes_nothing_stale(
    open_shop: Shop,
) -> None:
    with open_shop.whole.metadata.transaction() as tx:
        tx.execute(
            text("""
                INSERT INTO trace_by_name.data_invalidations (dataset, scope, row_filter, reason)
                VALUES (:dataset, 'row_range', '{"nobody": 1}', 'manual')
            """),
            {"dataset": SILVER},
        )
        propagation.route(tx)

    assert causes(open_shop) == {}


INVALIDATE = text("""
    INSERT INTO trace_by_name.data_invalidations (dataset, scope, partition_key, reason)
    VALUES (:dataset, 'partition', 'all', 'manual')
""")
