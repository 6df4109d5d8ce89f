"""Showing: what Dagster keeps of a real publication, and of one that was stopped."""

from typing import Any

import dagster as dg
import pytest
from sqlalchemy import select

from rat_assets import showing
from rat_assets.entries import Entries, size_of
from rat_assets.landing import zone_specs
from rat_assets.phases import Outcome, Step
from rat_assets.pipelines import asset_spec, build_asset
from rat_assets.runner import RunReport
from rat_assets.showing import BYTES
from rat_resources import releases
from rat_resources.metadata.landing import LandingZone
from rat_resources.metadata.quality import QualityResult
from rat_resources.releases import PublishedPipeline
from tests.factories import ORDERS, Shop

JANUARY = "id,customer,amount\n1,ada,10\n2,bob,20\n"
BROKEN = "id,customer,amount\n5,eve,-1\n"
WIDE = {
    "shop/pipelines/bronze/wide/pipeline.sql": "SELECT "
    + ", ".join(f"repeat('x', 5000) AS column_{number}" for number in range(600))
    + " FROM range(50)"
}


def shown(shop: Shop, table: str) -> dict[str, Any]:
    """What the newest materialization of a table shows, as plain values."""
    event = shop.materializations(table)[0].asset_materialization
    assert event is not None
    return dict(event.metadata)


def checks(shop: Shop, report: RunReport) -> list[dg.AssetCheckEvaluation]:
    """The results that a run gave Dagster."""
    events = [
        each.dagster_event for each in shop.instance.all_logs(report.dagster_run_id)
    ]
    return [
        event.asset_check_evaluation_data
        for event in events
        if event and event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ]


def pipelines(shop: Shop) -> dict[str, PublishedPipeline]:
    """The published pipelines by the name of their table."""
    with shop.whole.metadata.transaction() as tx:
        found = releases.load(tx, release=releases.current(tx) or 0)
    return {str(each.spec.table): each for each in found}


def rows(value: dg.TableMetadataValue) -> list[dict[str, Any]]:
    return [dict(record.data) for record in value.records]


def test_a_materialization_shows_the_whole_publication(shop: Shop) -> None:
    shop.publish()
    shop.land("january.csv", JANUARY)

    report = shop.run()

    bronze = shown(shop, "shop.bronze.orders")
    assert list(bronze)[:3] == ["dagster/row_count", "rows_written", "unchanged"]
    run = next(each for each in shop.runs() if each.id == report.tables[0].run_id)
    assert bronze["dagster/row_count"].value == 2
    assert bronze["dagster/size_bytes"].value > 0
    assert [(row["id"], row["customer"]) for row in rows(bronze["sample"])] == [
        (1, "ada"),
        (2, "bob"),
    ]
    assert rows(bronze["files"]) == [{"file": "orders/january.csv"}]
    assert "read_csv" in bronze["compiled_sql"].value
    assert "landing_zone(" not in bronze["compiled_sql"].value
    assert [row["phase"] for row in rows(bronze["phases"])] == [
        "branch",
        "compile",
        "write",
        "test",
        "publish",
    ]
    assert bronze["duration_ms"].value > 0
    assert bronze["dagster_run"].value == report.dagster_run_id
    assert bronze["rat_run_id"].value == str(run.id)
    assert bronze["branch"].value == run.branch
    assert bronze["snapshot_id"].value == str(run.snapshot_id)
    assert bronze["code_version"].value.startswith("sha256:")
    assert bronze["dagster/table_name"].value == "shop.bronze.orders"
    assert bronze["trigger"].value == "manual"
    columns = bronze["dagster/column_schema"].value.columns
    assert [(each.name, each.type) for each in columns[:2]] == [
        ("id", "bigint"),
        ("customer", "varchar"),
    ]


def test_a_materialization_names_the_snapshots_that_it_read(shop: Shop) -> None:
    shop.publish()
    shop.land("january.csv", JANUARY)

    shop.run()

    (pinned,) = rows(shown(shop, "shop.silver.orders")["inputs"])
    assert (pinned["table"], pinned["rows"]) == ("shop.bronze.orders", 2)
    assert pinned["snapshot"] == shown(shop, "shop.bronze.orders")["snapshot_id"].value


@pytest.mark.parametrize("query", ["SELECT 1 AS n WHERE false", None])
def test_there_is_no_sample_of_nothing(shop: Shop, query: str | None) -> None:
    folder = "shop/pipelines/bronze/numbers"
    view = {f"{folder}/config.yaml": "materialized: view\n"} if query is None else {}
    shop.publish({f"{folder}/pipeline.sql": query or "SELECT 1 AS n"} | view)

    report = shop.run()

    assert report.tables[0].status == "published"
    assert "sample" not in shown(shop, "shop.bronze.numbers")


def test_the_widest_table_keeps_its_materialization_small(shop: Shop) -> None:
    shop.publish(WIDE)

    report = shop.run()

    assert report.tables[0].status == "published"
    wide = shown(shop, "shop.bronze.wide")
    assert size_of(wide) < BYTES
    assert "dagster/column_schema" in wide["left_out"].value
    assert "characters left out" in wide["compiled_sql"].value
    sample = rows(wide["sample"])
    assert (len(sample[0]), sample[0]["…"]) == (14, "587 more columns")
    assert all(len(str(each)) <= 80 for each in sample[0].values())


def test_a_failed_check_shows_the_offenders_and_what_to_do(shop: Shop) -> None:
    shop.publish()
    shop.land("january.csv", JANUARY)
    shop.run()
    shop.land("broken.csv", BROKEN)

    check, _ = checks(shop, shop.run())

    shown = check.metadata
    assert shown["verdict"].value == "failed"
    assert shown["offending_rows"].value == 1
    sample = shown["sample"]
    assert isinstance(sample, dg.TableMetadataValue)
    assert [(row["id"], row["amount"]) for row in rows(sample)] == [(5, -1)]
    assert shown["severity"].value == "error: offending rows stop the publication"
    assert shown["remediation"].value == "Ask the shop"
    assert "amount <= 0" in str(shown["compiled_sql"].value)
    past = shown["last_runs"]
    assert isinstance(past, dg.TableMetadataValue)
    assert [(row["verdict"], row["offending rows"]) for row in rows(past)] == [
        ("failed", 1),
        ("passed", 0),
    ]


def test_a_run_shows_which_files_its_landing_zone_has(shop: Shop) -> None:
    shop.publish()
    shop.land("january.csv", JANUARY)

    shop.run()

    key = dg.AssetKey(["shop", "landing", "orders"])
    (record,) = shop.instance.fetch_observations(key, limit=9).records
    assert record.asset_observation is not None
    observed = record.asset_observation.metadata
    files = observed["newest_files"]
    assert isinstance(files, dg.TableMetadataValue)
    assert [(row["file"], row["state"]) for row in rows(files)] == [
        ("january.csv", "present")
    ]
    assert (observed["files"].value, observed["bytes"].value) == (1, len(JANUARY))


def test_an_asset_says_what_it_is_before_it_ever_ran(shop: Shop) -> None:
    shop.publish()

    spec = asset_spec(pipelines(shop)["shop.bronze.orders"].spec)

    assert spec.description == (
        "Orders as they arrive\n\n"
        "- **writes:** each run adds rows\n"
        "- **runs:** when a file lands in shop/orders"
    )
    assert spec.group_name == "shop/bronze"
    assert list(spec.owners) == ["team:shop"]
    assert spec.kinds == {"bronze", "iceberg", "duckdb", "sql"}
    assert [dep.asset_key.path for dep in spec.deps] == [["shop", "landing", "orders"]]
    metadata = spec.metadata
    assert metadata["dagster/table_name"] == "shop.bronze.orders"
    assert metadata["quality_tests"].value == (
        "- [amount_is_positive](/assets/shop/bronze/orders?view=checks"
        "&checkDetail=amount_is_positive) (error): Nobody orders for nothing"
    )
    assert "landing_zone('orders', new=true)" in metadata["template"].value


def specs(asset: dg.AssetsDefinition) -> list[dg.AssetCheckSpec]:
    """The checks of an asset, those of its author first."""
    return sorted(asset.check_specs, key=lambda each: each.name == "schema_change")


def test_a_check_says_what_it_is_about_before_it_ever_ran(shop: Shop) -> None:
    shop.publish()
    found = pipelines(shop)

    error, columns = specs(build_asset(found["shop.bronze.orders"], release=1))
    warn, _ = specs(build_asset(found["shop.silver.orders"], release=1))

    assert error.description == (
        "Nobody orders for nothing\n\n"
        "*error: offending rows stop the publication*\n\n"
        "**What to do:** Ask the shop"
    )
    assert (error.blocking, warn.blocking, columns.blocking) == (True, False, False)
    assert columns.name == "schema_change"


def test_what_is_shown_of_a_definition_stays_small(shop: Shop) -> None:
    code = ORDERS["shop/pipelines/gold/revenue/pipeline.sql"]
    path = "shop/pipelines/gold/revenue/pipeline.sql"
    shop.publish(ORDERS | {path: f"{code}\n-- {'a long comment ' * 5_000}"})

    spec = asset_spec(pipelines(shop)["shop.gold.revenue"].spec)

    assert "characters left out" in spec.metadata["template"].value
    assert size_of(dict(spec.metadata)) < 6_000


def test_of_many_tests_the_first_are_listed(shop: Shop) -> None:
    columns = "".join(f"  c{n}: {{tests: [not_null, unique]}}\n" for n in range(1_000))
    path = "shop/pipelines/gold/revenue/config.yaml"
    shop.publish(ORDERS | {path: f"columns:\n{columns}"})

    spec = asset_spec(pipelines(shop)["shop.gold.revenue"].spec)

    assert spec.metadata["quality_tests"].value.endswith("- … and 1,900 more")
    assert size_of(dict(spec.metadata)) < 30_000


def test_a_landing_zone_shows_the_columns_that_it_expects_in_their_order() -> None:
    zone = LandingZone(
        namespace="shop",
        name="orders",
        description="",
        owner=None,
        archive=True,
        expected_schema="year: integer\na: varchar",
        expected_columns={"a": "varchar", "year": "integer"},
    )

    (spec,) = zone_specs([zone])

    columns = spec.metadata["dagster/column_schema"].columns
    assert [each.name for each in columns] == ["year", "a"]
    assert spec.metadata["add_a_file"] == "rat upload shop/orders FILE"


def test_personal_data_is_in_no_sample(shop: Shop) -> None:
    folder = "shop/pipelines/bronze/orders"
    columns = "columns:\n  customer: {pii: true}\n"
    shop.publish(
        ORDERS | {f"{folder}/config.yaml": ORDERS[f"{folder}/config.yaml"] + columns}
    )
    shop.land("january.csv", JANUARY)
    shop.run("shop.bronze.orders")
    shop.land("broken.csv", BROKEN)

    check, _ = checks(shop, shop.run("shop.bronze.orders"))

    sample = rows(shown(shop, "shop.bronze.orders")["sample"])
    assert [(row["id"], row["customer"]) for row in sample] == [(1, "•••"), (2, "•••")]
    offenders = check.metadata["sample"]
    assert isinstance(offenders, dg.TableMetadataValue)
    assert [(row["id"], row["customer"]) for row in rows(offenders)] == [(5, "•••")]
    with shop.whole.metadata.transaction() as tx:
        kept = tx.scalars(select(QualityResult.sample)).all()
    assert "eve" not in str(kept)


def test_what_cannot_be_shown_is_told_and_the_rest_is_shown(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def describe_nothing(_step: Step, _outcome: Outcome) -> Entries:
        message = "no place for it"
        raise OverflowError(message)

    monkeypatch.setattr(showing, "GROUPS", (describe_nothing, showing.describe_rows))
    shop.publish({"shop/pipelines/gold/one/pipeline.sql": "SELECT 1 AS id"})

    report = shop.run()

    assert report.succeeded
    entries = shown(shop, "shop.gold.one")
    assert entries["dagster/row_count"].value == 1
    assert "OverflowError: no place for it" in entries["describe_nothing"].value
