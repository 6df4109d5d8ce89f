"""Columns in config.yaml: tests that run, words that Dagster and Postgres have."""

from typing import Any

import dagster as dg
import pytest
from sqlalchemy import select

from rat_resources.metadata.catalog import TableMetadata
from rat_resources.metadata.quality import QualityResult, QualityTest
from tests.factories import Shop

PEOPLE = {
    "shop/pipelines/bronze/people/pipeline.sql": "SELECT range AS id FROM range(3)",
    "shop/pipelines/bronze/orders/pipeline.sql": """
SELECT t.* FROM (VALUES (1, 0, 'open'), (2, 1, 'paid')) AS t (id, customer, status)
WHERE (SELECT count(*) FROM {{ ref('bronze.people') }}) > 0
""",
    "shop/pipelines/bronze/orders/config.yaml": """
description: Orders
columns:
  id:
    description: The number on the receipt
    tests: [not_null, unique]
  customer:
    description: Who ordered
    pii: true
    tests: [relationships: bronze.people.id]
  status:
    tests: [accepted_values: [open, paid]]
""",
}
TESTED = {
    "shop/pipelines/bronze/a/pipeline.sql": "SELECT 1 AS id",
    "shop/pipelines/bronze/a/config.yaml": (
        "columns: {id: {tests: [relationships: bronze.z.id]}}"
    ),
    "shop/pipelines/bronze/z/pipeline.sql": "SELECT 1 AS id",
}
CONFIG = "shop/pipelines/bronze/orders/config.yaml"
CODE = "shop/pipelines/bronze/orders/pipeline.sql"


def results(shop: Shop) -> dict[str, QualityResult]:
    """The last result of every test."""
    with shop.whole.metadata.transaction() as tx:
        rows = tx.execute(
            select(QualityTest.name, QualityResult)
            .join(QualityResult, QualityResult.test_id == QualityTest.id)
            .order_by(QualityResult.ran_at)
        )
        return {name: result for name, result in rows}


def descriptions(shop: Shop) -> dict[str, Any]:
    """The descriptions of the columns of orders."""
    with shop.whole.metadata.transaction() as tx:
        rows = select(TableMetadata.column_descriptions)
        found: dict[str, Any] = tx.scalars(rows.filter_by(name="orders")).one()
        return found


def table_schema(shop: Shop) -> dict[str, dg.TableColumn]:
    """The columns of orders as its last materialization shows them."""
    event = shop.materializations("shop.bronze.orders")[0].asset_materialization
    assert event
    value = event.metadata["dagster/column_schema"].value
    assert isinstance(value, dg.TableSchema)
    return {column.name: column for column in value.columns}


def test_the_tests_of_columns_run_like_those_in_files(shop: Shop) -> None:
    shop.publish(PEOPLE)

    report = shop.run()

    assert report.succeeded
    assert {name: each.status for name, each in results(shop).items()} == {
        "not_null_id": "passed",
        "unique_id": "passed",
        "relationships_customer": "passed",
        "accepted_values_status": "passed",
    }
    checks = shop.instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey(["shop", "bronze", "orders"]), "unique_id"), 1
    )
    assert len(checks) == 1


@pytest.mark.parametrize(
    ("rows", "test", "sample"),
    [
        ("(NULL, 0, 'open')", "not_null_id", {"id": None}),
        ("(1, 0, 'open'), (1, 0, 'open')", "unique_id", {"id": 1}),
        ("(1, 9, 'open')", "relationships_customer", {"id": 1}),
        ("(1, 0, 'opne')", "accepted_values_status", {"id": 1}),
    ],
)
def test_an_offender_stops_the_publication_and_is_kept(
    shop: Shop, rows: str, test: str, sample: dict[str, object]
) -> None:
    shop.publish(PEOPLE)
    shop.run()
    code = f"SELECT * FROM (VALUES {rows}) AS t (id, customer, status)"
    shop.publish({CODE: code})
    before = shop.main

    report = shop.run("shop.bronze.orders")

    result = results(shop)[test]
    assert not report.succeeded
    assert shop.main == before
    assert result.status == "failed"
    assert result.sample
    assert result.sample[0].items() >= sample.items()


def test_a_test_that_warns_does_not_stop(shop: Shop) -> None:
    warn = "columns: {id: {tests: [{unique: {severity: warn, where: id > 0}}]}}"
    shop.publish(PEOPLE | {CONFIG: warn, CODE: "SELECT 1 AS id FROM range(3)"})

    report = shop.run("shop.bronze.orders")

    assert report.succeeded
    assert results(shop)["unique_id"].status == "warned"


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            "idd: {tests: [not_null]}",
            "shop.bronze.orders has no column 'idd'; did you mean 'id'?",
        ),
        (
            "id: {tests: [relationships: bronze.people.identity]}",
            "shop.bronze.people has no column 'identity'; it has id",
        ),
        (
            "id: {tests: [{not_null: {where: statu = 'open'}}]}",
            'Referenced column "statu" not found',
        ),
    ],
)
def test_a_test_of_a_column_that_is_not_there_could_not_run(
    shop: Shop, columns: str, said: str
) -> None:
    shop.publish(PEOPLE | {CONFIG: f"columns: {{{columns}}}"})

    report = shop.run()

    (result,) = results(shop).values()
    assert not report.succeeded
    assert result.status == "error"
    assert result.message.startswith(f"{CONFIG}:1: ")
    assert said in result.message


def test_a_column_that_is_described_and_not_there_is_named_in_the_log(
    shop: Shop,
) -> None:
    shop.publish(PEOPLE | {CONFIG: "columns: {ID: {pii: no}, statu: {description: x}}"})

    shop.run("shop.bronze.orders", upstream=True)

    said = [line["message"] for run in shop.runs() for line in run.logs or []]
    assert [each for each in said if "config.yaml" in each] == [
        "config.yaml: columns: shop.bronze.orders has no column 'statu'; "
        "did you mean 'status'?"
    ]


def test_a_table_that_only_tests_read_runs_before_them(shop: Shop) -> None:
    shop.publish(TESTED)

    report = shop.run()

    assert report.succeeded
    assert results(shop)["relationships_id"].status == "passed"


def test_a_table_runs_though_one_that_only_its_tests_read_fails(shop: Shop) -> None:
    shop.publish(TESTED)
    shop.run()
    shop.publish({"shop/pipelines/bronze/z/pipeline.sql": "SELECT error('x') AS id"})

    report = shop.run()

    statuses = {each.table.name: each.status for each in report.tables}
    assert statuses == {"a": "published", "z": "failed"}


def test_a_relationship_must_be_to_a_table_that_exists(shop: Shop) -> None:
    missing = "columns: {id: {tests: [relationships: bronze.peple.id]}}"

    with pytest.raises(Exception, match=r"config.yaml:1: .*did you mean shop.bronze"):
        shop.publish(PEOPLE | {CONFIG: missing})


def test_a_materialization_shows_what_is_said_about_columns(shop: Shop) -> None:
    shop.publish(PEOPLE)

    shop.run()

    columns = table_schema(shop)
    assert columns["id"].description == "The number on the receipt"
    assert columns["id"].constraints.unique
    assert columns["customer"].tags == {"pii": "true"}
    assert columns["status"].description is None


def test_what_people_wrote_about_a_column_stays(shop: Shop) -> None:
    shop.publish(PEOPLE)
    published = descriptions(shop)
    with shop.whole.metadata.transaction() as tx:
        row = tx.scalars(select(TableMetadata).filter_by(name="orders")).one()
        row.column_descriptions = published | {"id": "By hand", "status": "By hand"}

    shop.publish({CONFIG: "columns: {id: {description: New}, total: {description: T}}"})

    assert published == {
        "id": "The number on the receipt",
        "customer": "Who ordered",
    }
    assert descriptions(shop) == {"id": "By hand", "status": "By hand", "total": "T"}


def test_a_view_has_tests_of_columns_too(shop: Shop) -> None:
    view = "materialized: view\ncolumns: {id: {tests: [unique, not_null]}}"
    shop.publish(PEOPLE | {CONFIG: view})

    report = shop.run()

    assert report.succeeded
    assert {each.status for each in results(shop).values()} == {"passed"}
