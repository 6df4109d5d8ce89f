"""DAGs: publishing is the cutover, and the same pipelines are the same version."""

import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import select, text

from rat_resources.metadata.trace.dags import (
    DagVersion,
    DagVersionDataset,
    Dataset,
    Job,
)
from rat_resources.metadata.trace.people import Org
from rat_resources.mirror import dags
from rat_resources.retirement import retire
from tests.factories import ORDERS, Shop

SILVER = "shop/pipelines/silver/orders/pipeline.sql"
GOLD = "shop/pipelines/gold/revenue/pipeline.sql"
OTHER = {
    "mart/pipelines/gold/customers/pipeline.sql": (
        "SELECT count(*) AS n FROM {{ ref('shop.silver.orders') }}\n"
    )
}


def ask(shop: Shop, question: str) -> Sequence[tuple[Any, ...]]:
    """The rows of a question."""
    with shop.whole.metadata.transaction() as tx:
        return [tuple(row) for row in tx.execute(text(question))]


def served(shop: Shop) -> dict[str, uuid.UUID]:
    """The generation that each dataset has now."""
    rows = ask(
        shop, "SELECT dataset, dataset_version FROM trace.current_dataset_versions"
    )
    return {name: version for name, version in rows}


def everything(shop: Shop) -> list[Any]:
    """Every row that publishing writes, with the moment of its last change."""
    tables = ("dag_versions", "dag_current_versions", "jobs", "datasets")
    pinned = ("dataset_versions", "dag_version_datasets", "orgs", "users")
    return [
        ask(shop, f"SELECT t::text, xmin::text FROM trace.{table} AS t ORDER BY 1")
        for table in (*tables, *pinned)
    ]


def test_publishing_serves_a_version_of_each_namespace(shop: Shop) -> None:
    shop.publish(ORDERS | OTHER)

    assert ask(
        shop, "SELECT dag_name, state FROM trace.dag_versions ORDER BY dag_name"
    ) == [("mart", "serving"), ("shop", "serving")]
    assert sorted(served(shop)) == [
        "mart.gold.customers",
        "shop.bronze.orders",
        "shop.gold.revenue",
        "shop.silver.orders",
    ]


def test_a_pipeline_is_a_job_in_the_words_of_trace(shop: Shop) -> None:
    shop.publish()

    with shop.whole.metadata.transaction() as tx:
        jobs = {each.name: each for each in tx.scalars(select(Job))}
    bronze, silver = jobs["bronze.orders"], jobs["silver.orders"]
    assert (bronze.activation, bronze.execution_strategy) == ("source", None)
    assert (bronze.update_strategy, bronze.unique_key) == ("append", ["_rat_run"])
    assert bronze.source
    assert bronze.source["zones"] == ["shop.landing.orders"]
    assert (silver.activation, silver.execution_strategy) == ("reactive", "PerUpdate")
    assert (silver.update_strategy, silver.unique_key) == ("replace", ["id"])
    assert (silver.runtime, silver.operator, silver.max_attempts) == (
        "dagster",
        "sql",
        1,
    )
    assert silver.active
    assert silver.config_hash.startswith("sha256:")


def test_by_name_jobs_read_and_make_tables(shop: Shop) -> None:
    shop.publish()

    rows = ask(
        shop,
        "SELECT input_datasets, output_datasets FROM trace_by_name.jobs ORDER BY name",
    )

    assert rows == [
        (["shop.landing.orders"], ["shop.bronze.orders"]),
        (["shop.silver.orders"], ["shop.gold.revenue"]),
        (["shop.bronze.orders"], ["shop.silver.orders"]),
    ]


def test_publishing_the_same_again_changes_no_row(shop: Shop) -> None:
    shop.publish()
    before = everything(shop)

    shop.publish()
    with shop.whole.metadata.transaction() as tx:
        dags.reflect_pipelines(tx)
        dags.restate(tx)

    assert everything(shop) == before


def test_a_change_makes_new_generations_of_it_and_of_what_follows_it(
    shop: Shop,
) -> None:
    shop.publish()
    before = served(shop)

    shop.publish({SILVER: ORDERS[SILVER].replace("amount::DECIMAL(12, 2)", "amount")})

    after = served(shop)
    assert {name for name in after if after[name] != before[name]} == {
        "shop.silver.orders",
        "shop.gold.revenue",
    }
    assert ask(shop, "SELECT state FROM trace.dag_versions ORDER BY state") == [
        ("retired",),
        ("serving",),
    ]


def test_a_comment_makes_no_new_version(shop: Shop) -> None:
    shop.publish()
    before = served(shop)

    shop.publish({GOLD: f"-- all that they paid\n{ORDERS[GOLD]}"})

    assert served(shop) == before
    assert len(ask(shop, "SELECT 1 FROM trace.dag_versions")) == 1


def test_who_is_asked_makes_a_new_version_and_no_new_generation(shop: Shop) -> None:
    shop.publish()
    before = served(shop)

    shop.publish({GOLD: f"-- @owner: team:gold\n{ORDERS[GOLD]}"})

    assert served(shop) == before
    assert len(ask(shop, "SELECT 1 FROM trace.dag_versions")) == 2


def test_a_change_does_not_drive_another_namespace(shop: Shop) -> None:
    shop.publish(ORDERS | OTHER)
    before = served(shop)

    shop.publish({SILVER: ORDERS[SILVER].replace("amount::DECIMAL(12, 2)", "amount")})

    name = "mart.gold.customers"
    assert served(shop)[name] == before[name]
    mart = "SELECT count(*) FROM trace.dag_versions WHERE dag_name = 'mart'"
    assert ask(shop, mart) == [(1,)]


def test_what_was_once_published_is_the_same_version_when_it_comes_back(
    shop: Shop,
) -> None:
    shop.publish()
    before = served(shop)
    shop.publish({GOLD: "SELECT 1 AS revenue FROM {{ ref('silver.orders') }}\n"})

    shop.publish({GOLD: ORDERS[GOLD]})

    assert served(shop) == before
    assert len(ask(shop, "SELECT 1 FROM trace.dag_versions")) == 2
    assert len(ask(shop, "SELECT 1 FROM trace.jobs WHERE active")) == 3


def test_a_retired_pipeline_is_no_job_and_its_dataset_is_not_served(
    shop: Shop,
) -> None:
    shop.publish()

    retire(shop.whole.metadata, shop.whole.store, ["shop.gold.revenue"])

    assert "shop.gold.revenue" not in served(shop)
    active = ask(shop, "SELECT name FROM trace.jobs WHERE active ORDER BY name")
    assert active == [("bronze.orders",), ("silver.orders",)]
    with shop.whole.metadata.transaction() as tx:
        assert dags.dataset_id(org_of(shop), "shop.gold.revenue") in tx.scalars(
            select(Dataset.id)
        )


def test_a_namespace_without_pipelines_serves_an_empty_version(shop: Shop) -> None:
    shop.publish(OTHER | ORDERS)

    retire(shop.whole.metadata, shop.whole.store, ["mart.gold.customers"])

    served_jobs = """
        SELECT count(job.id) FROM trace.dag_current_versions AS current
        LEFT JOIN trace.jobs AS job USING (dag_version_id)
        WHERE current.dag_name = 'mart'
    """
    assert ask(shop, served_jobs) == [(0,)]


def test_a_retry_is_another_attempt_and_changes_no_output(shop: Shop) -> None:
    shop.publish()
    before = served(shop)

    shop.publish({GOLD: f"-- @max_retries: 2\n{ORDERS[GOLD]}"})

    assert served(shop) == before
    attempts = "SELECT max_attempts FROM trace_by_name.jobs WHERE name = 'gold.revenue'"
    assert ask(shop, attempts) == [(3,)]


def test_an_emptied_mirror_is_filled_with_the_same_ids(shop: Shop) -> None:
    shop.publish()
    before = served(shop)
    ask_to = "TRUNCATE trace.dag_versions, trace.datasets CASCADE"
    with shop.whole.metadata.transaction() as tx:
        tx.execute(text(ask_to))

    with shop.whole.metadata.transaction() as tx:
        dags.reflect_pipelines(tx)

    assert served(shop) == before


def test_a_changed_job_is_restated(shop: Shop) -> None:
    shop.publish()
    with shop.whole.metadata.transaction() as tx:
        tx.execute(text("UPDATE trace.jobs SET operator = 'cobol', active = false"))

    with shop.whole.metadata.transaction() as tx:
        dags.restate(tx)

    rows = ask(shop, "SELECT DISTINCT operator, active FROM trace.jobs")
    assert rows == [("sql", True)]


def org_of(shop: Shop) -> uuid.UUID:
    """The one organisation."""
    with shop.whole.metadata.transaction() as tx:
        return tx.scalars(select(Org.id)).one()


@pytest.mark.parametrize("model", [DagVersion, Job, DagVersionDataset])
def test_every_row_can_be_read_as_its_model(shop: Shop, model: type) -> None:
    shop.publish()

    with shop.whole.metadata.transaction() as tx:
        assert tx.scalars(select(model)).all()
