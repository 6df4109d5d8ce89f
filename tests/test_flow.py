"""The whole story: a file is dropped, and gold comes out, tested, published and written down."""

from decimal import Decimal

import dagster as dg
from sqlalchemy import func, select

from rat_resources import landing
from rat_resources.metadata.automation import Wish
from rat_resources.metadata.catalog import IcebergColumn, IcebergTable
from rat_resources.metadata.landing import ClaimState, LandingClaim
from rat_resources.metadata.quality import QualityResult, QualityTest
from rat_resources.metadata.runs import Publication, PublicationState, RunInput
from tests.factories import ORDERS, Shop
from tests.places import BOTH_ENDS, EVERYWHERE

JANUARY = "id,customer,amount\n1,ann,10.50\n2,bob,20\n3,,5\n"
FEBRUARY = "id,customer,amount\n2,bob,25\n4,ann,1.50\n"
BROKEN = "id,customer,amount\n5,eve,-1\n"


def test_a_file_that_lands_comes_out_in_gold(shop: Shop) -> None:
    shop.publish()
    shop.land("january.csv", JANUARY)

    report = shop.run()

    assert [(str(each.table), each.status) for each in report.tables] == [
        ("shop.bronze.orders", "published"),
        ("shop.silver.orders", "published"),
        ("shop.gold.revenue", "published"),
    ]
    assert shop.rows("shop.gold.revenue") == [
        ("ann", Decimal("10.50"), 1),
        ("bob", Decimal("20.00"), 1),
        (None, Decimal("5.00"), 1),
    ]
    assert shop.branches == []


@EVERYWHERE
def test_everything_that_happened_stands_in_postgres(shop: Shop) -> None:
    shop.publish()
    shop.land("january.csv", JANUARY)

    report = shop.run()

    bronze, silver, _gold = shop.runs()
    assert [phase["phase"] for phase in bronze.phase_profiles or []] == [
        "branch",
        "compile",
        "write",
        "test",
        "publish",
    ]
    assert (bronze.status, bronze.trigger, bronze.rows_written) == (
        "success",
        "manual",
        3,
    )
    assert bronze.dagster_run_id == report.dagster_run_id
    assert bronze.started_at is not None
    assert bronze.finished_at is not None
    assert bronze.logs
    assert shop.whole.store.exists(bronze.logs_s3_path or "")
    with shop.whole.metadata.transaction() as tx:
        results = tx.execute(
            select(QualityTest.name, QualityResult.status).join(
                QualityResult, QualityResult.test_id == QualityTest.id
            )
        )
        verdicts = {name: status for name, status in results}
        assert verdicts == {
            "amount_is_positive": "passed",
            "customer_is_known": "warned",
        }
        assert tx.scalars(select(LandingClaim.state)).all() == [ClaimState.COMMITTED]
        assert set(tx.scalars(select(Publication.state))) == {PublicationState.CLOSED}
        pins = (
            tx.execute(select(RunInput).where(RunInput.run_id == silver.id))
            .scalars()
            .all()
        )
        assert [(pin.layer, pin.snapshot_id) for pin in pins] == [
            ("bronze", bronze.snapshot_id)
        ]
        tables = tx.execute(select(IcebergTable.layer, IcebergTable.row_count))
        counts = {layer: rows for layer, rows in tables}
        assert counts == {"bronze": 3, "silver": 3, "gold": 3}
        columns = tx.scalar(select(func.count()).select_from(IcebergColumn))
        assert columns == 4 + 4 + 3


@EVERYWHERE
def test_a_failing_test_leaves_main_as_it_was(shop: Shop) -> None:
    shop.publish()
    shop.land("january.csv", JANUARY)
    shop.run()
    before, gold = shop.main, shop.rows("shop.gold.revenue")
    shop.land("broken.csv", BROKEN)

    report = shop.run()

    assert [(each.status, each.failed) for each in report.tables] == [
        ("failed", 1),
        ("skipped", 0),
        ("skipped", 0),
    ]
    assert not report.succeeded
    assert (shop.main, shop.rows("shop.gold.revenue")) == (before, gold)
    assert shop.branches == []
    assert len(shop.materializations("shop.bronze.orders")) == 1
    with shop.whole.metadata.transaction() as tx:
        result = tx.scalars(
            select(QualityResult).where(QualityResult.run_id == report.tables[0].run_id)
        ).one()
    assert result.status == "failed"
    assert result.value == 1
    assert [(row["id"], row["amount"]) for row in result.sample or []] == [(5, -1)]


def test_the_check_of_a_failing_test_does_not_accuse_what_is_published(
    shop: Shop,
) -> None:
    shop.publish()
    shop.land("january.csv", JANUARY)
    shop.run()
    shop.land("broken.csv", BROKEN)

    report = shop.run()

    events = [
        entry.dagster_event for entry in shop.instance.all_logs(report.dagster_run_id)
    ]
    checks = [
        event.asset_check_evaluation_data
        for event in events
        if event and event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ]
    check, _ = checks
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.ERROR
    assert "main is unchanged at" in (check.description or "")
    run = shop.instance.get_run_by_id(report.dagster_run_id)
    assert run is not None
    assert run.status == dg.DagsterRunStatus.FAILURE


def test_a_file_that_made_its_run_fail_does_not_block_the_zone(shop: Shop) -> None:
    shop.publish()
    shop.land("broken.csv", BROKEN)
    shop.run()
    shop.land("february.csv", FEBRUARY)
    shop.notice()

    report = shop.run(trigger="trigger:lz_upload:shop/orders")

    assert report.succeeded
    assert len(shop.rows("shop.bronze.orders")) == 2


@BOTH_ENDS
def test_the_second_batch_is_upserted(shop: Shop) -> None:
    shop.publish()
    shop.land("january.csv", JANUARY)
    shop.run()
    shop.land("february.csv", FEBRUARY)

    report = shop.run()

    bronze, silver, _gold = report.tables
    assert (bronze.rows_written, bronze.rows_total) == (2, 5)
    assert (silver.rows_written, silver.rows_total) == (2, 4)
    assert shop.rows("shop.gold.revenue")[0] == ("ann", Decimal("12.00"), 2)


@EVERYWHERE
def test_nothing_new_is_a_success_with_the_same_data_version(shop: Shop) -> None:
    shop.publish()
    shop.land("january.csv", JANUARY)
    shop.run()
    before = shop.main

    report = shop.run(only_changed=True)

    assert [each.status for each in report.tables] == ["unchanged"] * 3
    assert shop.main == before
    newest, oldest = shop.materializations("shop.bronze.orders")
    versions = {
        record.asset_materialization.tags["dagster/data_version"]
        for record in (newest, oldest)
        if record.asset_materialization and record.asset_materialization.tags
    }
    assert len(versions) == 1


def test_a_publication_wishes_for_what_follows_it_once(shop: Shop) -> None:
    shop.publish()
    shop.land("january.csv", JANUARY)

    shop.run("shop.bronze.orders")

    with shop.whole.metadata.transaction() as tx:
        wishes = tx.scalars(select(Wish)).all()
    assert [(wish.label, wish.state) for wish in wishes] == [("auto", "waiting")]

    shop.run("shop.silver.orders")

    with shop.whole.metadata.transaction() as tx:
        states = tx.scalars(select(Wish.state)).all()
    assert sorted(states) == ["done", "waiting"]


@BOTH_ENDS
def test_committed_files_are_archived_where_the_zone_says_so(shop: Shop) -> None:
    shop.publish(ORDERS | {"shop/landing/orders.yaml": "archive: true\n"})
    shop.land("january.csv", JANUARY)

    report = shop.run("shop.bronze.orders")

    assert report.succeeded
    store, zone = shop.whole.store, "shop/landing/orders"
    moved = f"{zone}/_processed/{report.tables[0].run_id}/january.csv"
    assert not store.exists(f"{zone}/january.csv")
    assert store.read(moved).decode() == JANUARY
    assert [each.status for each in shop.run("shop.bronze.orders").tables] == [
        "unchanged"
    ]


def test_every_file_without_the_expected_columns_is_named_and_waits(shop: Shop) -> None:
    shop.publish(
        ORDERS
        | {
            "shop/landing/orders.yaml": (
                "expected_schema:\n"
                "  columns: {id: bigint, customer: varchar, amount: double}\n"
            )
        }
    )
    shop.land("a.csv", "id,customer\n1,ann\n")
    shop.land("b.csv", "id,customer,amount\nx,ann,1\n")

    report = shop.run("shop.bronze.orders")

    error = report.tables[0].error or ""
    assert "shop/orders/a.csv: column amount is missing" in error
    assert "shop/orders/b.csv: column id is VARCHAR (x), expected bigint" in error
    assert "rat reject shop/orders a.csv" in error
    with shop.whole.metadata.transaction() as tx:
        assert [each.name for each in landing.waiting(tx)] == ["a.csv", "b.csv"]


def test_of_two_rows_that_nothing_else_tells_apart_the_later_one_counts(
    shop: Shop,
) -> None:
    upsert = """
-- @merge_strategy: incremental
-- @unique_key: id
SELECT id, customer, amount::DECIMAL(12, 2) AS amount FROM {{ ref('bronze.orders') }}
"""
    shop.publish(ORDERS | {"shop/pipelines/silver/latest/pipeline.sql": upsert})
    for name, content in (("january.csv", JANUARY), ("february.csv", FEBRUARY)):
        shop.land(name, content)
        shop.run("shop.bronze.orders", "shop.silver.latest")

    assert shop.rows("shop.silver.latest")[1] == (2, "bob", Decimal("25.00"))
