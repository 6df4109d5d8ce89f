"""Running in this process: what is asked for, and what is reported."""

import dagster as dg
import pytest

from rat_assets.runner import RunAsk, RunReport, Status, TableReport
from rat_resources.errors import NotFoundError
from rat_resources.lake.refs import MAIN
from rat_resources.names import TableName
from rat_resources.runs import RELEASE_TAG, TRIGGER_TAG
from tests.factories import Shop

NUMBERS = {
    "shop/pipelines/bronze/numbers/pipeline.sql": "SELECT range AS n FROM range(3)",
    "shop/pipelines/bronze/numbers/tests/quality/small.sql": """
-- @severity: warn
FROM {{ this }} WHERE n > 1
""",
    "shop/pipelines/bronze/words/pipeline.sql": "SELECT 'x' AS word",
    "shop/pipelines/silver/numbers/pipeline.sql": """
SELECT n FROM {{ ref('bronze.numbers') }}
""",
    "shop/pipelines/gold/both/pipeline.sql": """
SELECT n FROM {{ ref('silver.numbers') }}, {{ ref('silver.words') }}
""",
    "shop/pipelines/silver/words/pipeline.sql": """
SELECT word FROM {{ ref('bronze.words') }}
""",
}


@pytest.mark.parametrize(
    ("statuses", "succeeded"),
    [
        (["published", "unchanged"], True),
        (["published", "skipped"], False),
        (["failed"], False),
        (["cancelled"], False),
        ([], True),
    ],
)
def test_a_run_succeeds_when_everything_was_published(
    statuses: list[Status], *, succeeded: bool
) -> None:
    table = TableName("shop", "bronze", "numbers")
    report = RunReport("", tuple(TableReport(table, each) for each in statuses))

    assert report.succeeded is succeeded


def test_a_report_says_what_became_of_a_table(shop: Shop) -> None:
    shop.publish(NUMBERS)

    report = shop.run("shop.bronze.numbers")

    (table,) = report.tables
    assert (table.status, table.rows_total, table.rows_written) == ("published", 3, 3)
    assert (table.passed, table.warned, table.failed) == (0, 1, 0)
    assert table.snapshot_id is not None
    assert table.ms is not None
    (run,) = shop.runs()
    assert run.id == table.run_id


def test_a_run_is_one_dagster_run_that_says_why(shop: Shop) -> None:
    release = shop.publish(NUMBERS)

    report = shop.run("shop.bronze.*", trigger="replay:x")

    dagster_run = shop.instance.get_run_by_id(report.dagster_run_id)
    assert dagster_run is not None
    assert dagster_run.status == dg.DagsterRunStatus.SUCCESS
    assert dagster_run.tags[TRIGGER_TAG] == "replay:x"
    assert dagster_run.tags[RELEASE_TAG] == str(release.number)
    assert {run.trigger for run in shop.runs()} == {"replay:x"}


def test_a_failure_stops_what_follows_it_and_nothing_else(shop: Shop) -> None:
    broken = {"shop/pipelines/silver/words/pipeline.sql": "SELECT missing"}
    shop.publish(NUMBERS | broken)

    report = shop.run()

    assert {str(each.table): each.status for each in report.tables} == {
        "shop.bronze.numbers": "published",
        "shop.bronze.words": "published",
        "shop.silver.numbers": "published",
        "shop.silver.words": "failed",
        "shop.gold.both": "skipped",
    }
    assert len(shop.runs()) == 4


def test_a_run_first_tidies_what_a_crash_left(shop: Shop) -> None:
    shop.publish(NUMBERS)
    name = "run-00000000-0000-0000-0000-000000000001-1"
    shop.whole.lake.refs.create(name, at=MAIN)

    shop.run("shop.bronze.words")

    assert shop.branches == []


def test_a_word_that_names_nothing_starts_nothing(shop: Shop) -> None:
    shop.publish(NUMBERS)

    with pytest.raises(NotFoundError, match="did you mean"):
        shop.run("shop.bronze.number")

    assert shop.instance.get_runs() == []


def test_an_ask_is_a_dagster_runs_tags() -> None:
    ask = RunAsk(full_refresh=True, only_changed=True, trigger="auto")

    tags = ask.tags

    assert tags.pop("rat/worker")
    assert tags == {
        "rat/trigger": "auto",
        "rat/full_refresh": "true",
        "rat/only_changed": "true",
    }
