"""Tests of rat_resources.wiring: what an asset gets from the platform."""

import dagster as dg
from dagster_duckdb import DuckDBResource

from rat_resources.wiring import resources
from tests.factories import Shop


def test_an_asset_finds_the_parts_by_name(shop: Shop) -> None:
    @dg.asset(required_resource_keys={"platform", "metadata", "store", "lake"})
    def parts(context: dg.AssetExecutionContext) -> None:
        found = context.resources
        assert found.platform.lake is found.lake
        assert found.lake.published() == []

    result = dg.materialize([parts], resources=resources(), instance=shop.instance)

    assert result.success


def test_an_asset_gets_the_duckdb_that_runs_have(shop: Shop) -> None:
    @dg.asset
    def zone(context: dg.AssetExecutionContext, duckdb: DuckDBResource) -> None:
        with duckdb.get_connection() as connection, duckdb.get_connection() as other:
            setting = (
                "SELECT current_setting('TimeZone'), current_setting('temp_directory')"
            )
            (utc, mine), (_, theirs) = (
                connection.sql(setting).fetchall()[0],
                other.sql(setting).fetchall()[0],
            )
        context.add_output_metadata({"zone": utc, "is_own": mine != theirs})

    result = dg.materialize([zone], resources=resources(), instance=shop.instance)

    (event,) = result.get_asset_materialization_events()
    shown = event.materialization.metadata
    assert (shown["zone"].value, shown["is_own"].value) == ("UTC", True)
