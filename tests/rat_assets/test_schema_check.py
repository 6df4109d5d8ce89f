"""The check of columns: what a run changes of them is said before it is published, and who reads it."""

from dataclasses import replace
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner
from sqlalchemy import select

from rat_assets.changes import Changes
from rat_assets.cli import rat
from rat_resources.audit import audit
from rat_resources.errors import PublishError
from rat_resources.lake.refs import MAIN
from rat_resources.metadata.quality import QualityResult, QualityTest
from rat_resources.names import TableName
from rat_resources.specs import PipelineSource, parse_pipeline
from rat_resources.specs import QualityTest as Declared
from tests.factories import Shop

BRONZE = "shop/pipelines/bronze/orders"
SQL, CONFIG = f"{BRONZE}/pipeline.sql", f"{BRONZE}/config.yaml"
TABLE = "shop.bronze.orders"


def checks(shop: Shop) -> list[tuple[bool, str]]:
    """What Dagster shows of the check, the newest run first."""
    key = dg.AssetCheckKey(dg.AssetKey(TABLE.split(".")), "schema_change")
    log = shop.instance.event_log_storage
    shown = [each.evaluation for each in log.get_asset_check_execution_history(key, 9)]
    return [(each.passed, each.severity.value) for each in shown if each]


def results(shop: Shop) -> list[tuple[str, str, Any]]:
    """Every row about the check: status, message, columns."""
    with shop.whole.metadata.transaction() as tx:
        rows = tx.execute(
            select(QualityResult.status, QualityResult.message, QualityResult.sample)
            .join(QualityTest, QualityResult.test_id == QualityTest.id)
            .where(QualityTest.name == "schema_change")
            .order_by(QualityResult.ran_at)
        )
        return [(status, message, sample) for status, message, sample in rows]


def test_a_run_that_changes_no_column_passes_and_keeps_no_row(shop: Shop) -> None:
    shop.publish({SQL: "SELECT 1 AS id"})

    shop.run()
    shop.run()

    assert checks(shop) == [(True, "WARN"), (True, "WARN")]
    assert results(shop) == []


def test_a_run_that_drops_a_column_says_who_reads_it_and_publishes(shop: Shop) -> None:
    shop.publish(
        {
            SQL: "SELECT 1 AS id, 'x' AS note",
            "shop/pipelines/silver/notes/pipeline.sql": (
                "-- @automation: none\nSELECT note AS text FROM {{ ref('bronze.orders') }}"
            ),
            "shop/pipelines/silver/ids/pipeline.sql": (
                "-- @automation: none\nSELECT id FROM {{ ref('bronze.orders') }}"
            ),
            "shop/pipelines/gold/texts/pipeline.sql": (
                "-- @automation: none\nSELECT text AS t FROM {{ ref('silver.notes') }}"
            ),
        }
    )
    shop.run()
    shop.publish({SQL: "SELECT 1::bigint AS id, 2 AS number"})

    report = shop.run(TABLE)
    shop.run(TABLE)

    assert report.succeeded
    assert checks(shop) == [(True, "WARN"), (False, "WARN"), (True, "WARN")]
    ((status, message, rows),) = results(shop)
    assert status == "warned"
    assert message == (
        "dropped note (varchar), read by shop.silver.notes.text, shop.gold.texts.t; "
        "widened id (integer → bigint), read by shop.silver.ids.id; "
        "added number (integer)"
    )
    assert rows[0] == {
        "kind": "dropped",
        "column": "note",
        "before": "varchar",
        "after": None,
        "by": "this run",
        "read by": "shop.silver.notes.text",
        "further down": "shop.gold.texts.t",
    }
    assert audit(shop.whole).differences == 0


def test_a_contract_stops_a_run_that_changes_a_column_until_somebody_accepts_it(
    shop: Shop,
) -> None:
    shop.publish({SQL: "SELECT 1 AS id", CONFIG: "contract: enforced"})
    shop.run()
    before = shop.main
    shop.publish({SQL: "SELECT 1 AS id, 2 AS number"})

    stopped = shop.run()
    left = shop.main
    accepted = shop.run(TABLE, accepted_by="ann")
    again = shop.run()

    assert (stopped.succeeded, left) == (False, before)
    said = str(stopped.tables[0].error)
    assert "added number (integer); contract: enforced lets no run change" in said
    assert f"rat run {TABLE} --accept-changes" in said
    assert (accepted.succeeded, again.succeeded) == (True, True)
    words = [(status, message) for status, message, _ in results(shop)]
    assert words == [
        ("passed", "no column changes"),
        ("failed", f"added number (integer){CONTRACT}"),
        ("warned", "added number (integer); accepted by ann"),
        ("passed", "no column changes"),
    ]
    assert Changes.from_json(shop.runs()[2].changes or {}).accepted_by == "ann"


def test_what_another_engine_renamed_is_told_once(shop: Shop) -> None:
    shop.publish({SQL: "SELECT 1 AS id, 'x' AS note"})
    shop.run()
    rename(shop, "note", to="remark")

    shop.run()
    shop.run()

    ((status, message, _),) = results(shop)
    assert status == "warned"
    assert message == (
        "renamed note (note → remark), by another engine since the last run; "
        "dropped remark (varchar); added note (varchar)"
    )


def test_the_name_of_the_check_is_no_name_for_a_test(shop: Shop) -> None:
    test = f"{BRONZE}/tests/quality/schema-change.sql"

    with pytest.raises(PublishError, match="schema-change is what RAT's own check"):
        shop.publish({SQL: "SELECT 1 AS id", test: "FROM {{ this }} WHERE false"})


def test_an_older_release_keeps_its_test_of_that_name() -> None:
    test = Declared("schema_change", "tests/quality/schema_change.sql")
    parsed = parse_pipeline(
        PipelineSource(TableName.parse(TABLE), {"pipeline.sql": "SELECT 1 AS id"})
    )

    spec = replace(parsed.spec, tests=(test,))

    assert spec.checks == (test,)


def test_a_contract_is_told_before_it_would_stop_the_next_run(shop: Shop) -> None:
    shop.publish({SQL: "SELECT 1 AS id", CONFIG: "contract: enforced"})
    shop.run()
    shop.write(SQL, "SELECT 1 AS id, 2 AS number")

    said = CliRunner().invoke(rat, ["publish", "--dry-run", str(shop.folder)])

    assert f"{TABLE}: contract: enforced would stop this; if it is meant" in said.stdout


def rename(shop: Shop, column: str, *, to: str) -> None:
    """Rename a column as another engine would: on a branch, merged into main."""
    refs = shop.whole.lake.refs
    refs.create("others", at=MAIN)
    table = shop.whole.lake.catalog("others").load_table(TABLE)
    with table.update_schema() as update:
        update.rename_column(column, to)
    refs.merge("others", into=MAIN, from_hash=refs.head("others"))


CONTRACT = "; contract: enforced lets no run change a column"
