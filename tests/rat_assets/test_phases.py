"""The life of a run: what ends it early, and what it leaves."""

import dagster as dg
import pytest
from sqlalchemy import select

from rat_assets import heartbeat
from rat_resources import leases
from rat_resources.lake.refs import MAIN
from rat_resources.metadata.landing import ClaimState
from rat_resources.metadata.runs import Publication, PublicationState
from tests.factories import Shop
from tests.hooks import cancel, dagster_status, settle, when
from tests.places import EVERYWHERE

NUMBERS = {
    "shop/pipelines/bronze/numbers/pipeline.sql": "SELECT range AS n FROM range(3)"
}
ENDLESS = """
SELECT max(a.range * b.range) AS n FROM range(4000000) a, range(4000000) b
"""
FILES = {
    "shop/pipelines/bronze/orders/pipeline.sql": """
-- @merge_strategy: append_only
SELECT * FROM read_csv('{{ landing_zone('orders', new=true) }}/*.csv')
"""
}


def land(shop: Shop, name: str, *, id: int) -> None:
    """Put a file into the landing zone, in a folder long enough ago to have settled."""
    path = shop.land(name, f"id\n{id}\n")
    if path.is_absolute():
        settle(path)


# Cancelling.


@pytest.fixture
def _quick_heart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A heart that beats fast, so that a cancel is noticed soon."""
    monkeypatch.setattr(heartbeat, "HEARTBEAT", leases.HEARTBEAT / 20)


@pytest.mark.usefixtures("_quick_heart")
@pytest.mark.parametrize("phase", ["branch", "compile", "write"])
def test_a_cancel_interrupts_the_query_and_publishes_nothing(
    shop: Shop, phase: str
) -> None:
    shop.publish(
        {
            "shop/pipelines/bronze/endless/pipeline.sql": f"""
-- {{{{ landing_zone('orders', new=true) }}}}
{ENDLESS} WHERE a.range > 0 -- {{{{ landing_zone('orders', new=true) }}}}
"""
        }
    )
    land(shop, "january.csv", id=1)
    before = shop.main

    with when(phase, lambda: cancel(shop)):
        report = shop.run()

    (run,) = shop.runs()
    assert (run.status, report.tables[0].status) == ("cancelled", "cancelled")
    canceled = dg.DagsterRunStatus.CANCELED
    assert dagster_status(shop, report.dagster_run_id) == canceled
    assert (shop.main, shop.branches, shop.holders, shop.claims) == (
        before,
        [],
        0,
        [],
    )
    assert shop.materializations("shop.bronze.endless") == []


@pytest.mark.usefixtures("_quick_heart")
def test_a_cancel_interrupts_a_test_that_does_not_end(shop: Shop) -> None:
    offends = "shop/pipelines/bronze/numbers/tests/quality/endless.sql"
    shop.publish(NUMBERS | {offends: ENDLESS})
    before = shop.main

    with when("test", lambda: cancel(shop)):
        report = shop.run()

    assert report.tables[0].status == "cancelled"
    assert (shop.main, shop.branches) == (before, [])


@pytest.mark.usefixtures("_quick_heart")
@pytest.mark.parametrize(
    "code",
    [
        f"result = duckdb_conn.sql({ENDLESS!r}).to_arrow_table()",
        f"result = duckdb_conn.sql({ENDLESS!r})",
        f"result = duckdb_conn.sql({ENDLESS!r}).to_arrow_reader()",
        "while True:\n    result = None",
        "while True:\n    try:\n        result = 1 / 0\n"
        "    except Exception:\n        pass",
    ],
    ids=["a query", "a lazy relation", "a lazy reader", "a loop", "a stubborn loop"],
)
def test_a_cancel_interrupts_a_script(shop: Shop, code: str) -> None:
    shop.publish({"shop/pipelines/bronze/endless/pipeline.py": code})

    with when("write", lambda: cancel(shop)):
        report = shop.run()

    assert report.tables[0].status == "cancelled"
    canceled = dg.DagsterRunStatus.CANCELED
    assert dagster_status(shop, report.dagster_run_id) == canceled
    assert (shop.branches, shop.holders) == ([], 0)


@EVERYWHERE
def test_a_cancel_just_before_the_merge_is_not_too_late(shop: Shop) -> None:
    shop.publish(NUMBERS)
    before = shop.main

    with when("publish", lambda: cancel(shop)):
        report = shop.run()

    assert report.tables[0].status == "cancelled"
    assert (shop.main, shop.branches) == (before, [])
    canceled = dg.DagsterRunStatus.CANCELED
    assert dagster_status(shop, report.dagster_run_id) == canceled


def test_a_cancel_after_the_merge_leaves_what_was_published(shop: Shop) -> None:
    shop.publish(
        NUMBERS
        | {
            "shop/pipelines/silver/numbers/pipeline.sql": (
                "SELECT n FROM {{ ref('bronze.numbers') }}"
            )
        }
    )

    with when("publish", lambda: cancel(shop), state="ended"):
        report = shop.run()

    bronze, silver = report.tables
    assert bronze.status == "published"
    assert silver.status in ("cancelled", "skipped")
    assert len(shop.rows("shop.bronze.numbers")) == 3
    assert (shop.branches, shop.holders) == ([], 0)


def test_a_file_of_a_cancelled_run_is_read_by_the_next(shop: Shop) -> None:
    shop.publish(FILES)
    land(shop, "january.csv", id=1)
    shop.notice()

    with when("publish", lambda: cancel(shop)):
        shop.run()
    report = shop.run(trigger="trigger:lz_upload:shop/orders")

    assert report.tables[0].rows_written == 1
    assert shop.claims == [ClaimState.COMMITTED]


# What a run is pinned to.


def test_publishing_while_it_runs_changes_nothing_for_it(shop: Shop) -> None:
    shop.publish(NUMBERS)
    newer = {
        name: code.replace("range(3)", "range(5)") for name, code in NUMBERS.items()
    }

    with when("branch", lambda: shop.publish(newer)):
        shop.run()
    first = len(shop.rows("shop.bronze.numbers"))
    shop.run()

    assert (first, len(shop.rows("shop.bronze.numbers"))) == (3, 5)


# Nothing new.


def test_without_new_files_nothing_is_written_and_the_tests_run(shop: Shop) -> None:
    test = "shop/pipelines/bronze/orders/tests/quality/has_id.sql"
    shop.publish(FILES | {test: "SELECT * FROM {{ this }} WHERE id IS NULL"})
    land(shop, "january.csv", id=1)
    first = shop.run()
    before = shop.main

    report = shop.run()

    (table,) = report.tables
    assert (table.status, table.passed, table.rows_total) == ("unchanged", 1, 1)
    assert (shop.main, table.snapshot_id) == (before, first.tables[0].snapshot_id)
    assert shop.branches == []


@EVERYWHERE
def test_a_full_refresh_reads_all_files_again(shop: Shop) -> None:
    shop.publish(FILES)
    land(shop, "january.csv", id=1)
    shop.run()
    land(shop, "february.csv", id=2)
    shop.run()

    report = shop.run(full_refresh=True)

    (table,) = report.tables
    assert (table.rows_written, table.rows_total) == (2, 2)
    assert shop.rows("shop.bronze.orders") == [(1,), (2,)]
    assert shop.claims == [ClaimState.COMMITTED] * 2


def test_only_changed_runs_again_once_an_input_changed(shop: Shop) -> None:
    silver = "shop/pipelines/silver/orders/pipeline.sql"
    shop.publish(FILES | {silver: "SELECT id FROM {{ ref('bronze.orders') }}"})
    land(shop, "january.csv", id=1)
    shop.run()

    idle = shop.run("shop.silver.orders", only_changed=True)
    land(shop, "february.csv", id=2)
    busy = shop.run(only_changed=True)
    shop.publish({silver: "SELECT id AS it FROM {{ ref('bronze.orders') }}"})
    edited = shop.run("shop.silver.orders", only_changed=True)

    assert [each.tables[-1].status for each in (idle, busy, edited)] == [
        "unchanged",
        "published",
        "published",
    ]


# What an author gets wrong.


def test_an_empty_zone_fails_the_first_run_with_advice(shop: Shop) -> None:
    shop.publish(FILES)

    report = shop.run()

    (table,) = report.tables
    assert table.status == "failed"
    assert table.error is not None
    assert "its landing zones have no files" in table.error
    assert "put a file into orders" in table.error


def test_a_table_that_was_never_written_is_met_with_advice(shop: Shop) -> None:
    silver = "shop/pipelines/silver/numbers/pipeline.sql"
    shop.publish(NUMBERS | {silver: "SELECT n FROM {{ ref('bronze.numbers') }}"})

    report = shop.run("shop.silver.numbers")

    assert report.tables[0].error == (
        "shop.bronze.numbers: no such table on main yet; "
        "run it first: rat run shop.bronze.numbers"
    )


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("SELECT range AS n,\n  missing\nFROM range(3)", 2),
        (
            "-- @description: x\nSELECT\n{% if true %}\n  1 AS n,\n{% endif %}\n"
            "  nothing.at_all\n",
            6,
        ),
        ("SELECT range AS n,\n  CAST('x' AS INTEGER) AS m\nFROM range(3)", 2),
        (
            "\n\n-- @description: x\n\nSELECT range AS n,\n"
            "  CAST(CASE WHEN range > 1 THEN 'x' ELSE '1' END AS INTEGER) AS m\n"
            "FROM range(3)",
            6,
        ),
    ],
    ids=["a column", "behind a block", "a cast", "a row"],
)
def test_an_error_of_the_query_names_the_authors_line(
    shop: Shop, code: str, line: int
) -> None:
    shop.publish({"shop/pipelines/bronze/numbers/pipeline.sql": code})

    report = shop.run()

    (table,) = report.tables
    assert table.error is not None
    where = f"shop/pipelines/bronze/numbers/pipeline.sql:{line}: "
    assert table.error.startswith(where), table.error


def test_a_failed_run_leaves_its_log_and_no_branch(shop: Shop) -> None:
    shop.publish({"shop/pipelines/bronze/numbers/pipeline.sql": "SELECT missing"})
    before = shop.main

    report = shop.run()

    (run,) = shop.runs()
    assert run.status == "failed"
    assert run.logs
    assert run.error == run.logs[-1]["message"]
    assert [each["phase"] for each in run.phase_profiles or []] == [
        "branch",
        "compile",
        "write",
    ]
    assert (shop.main, shop.branches, shop.holders) == (before, [], 0)
    failed = dg.DagsterRunStatus.FAILURE
    assert dagster_status(shop, report.dagster_run_id) == failed


# Views.

VIEWS = NUMBERS | {
    "shop/pipelines/silver/even/pipeline.sql": """
-- @materialized: view
SELECT n FROM {{ ref('bronze.numbers') }} WHERE n % 2 = 0
""",
    "shop/pipelines/silver/even/tests/quality/is_even.sql": """
SELECT * FROM {{ this }} WHERE n % 2 = 1
""",
    "shop/pipelines/silver/tens/pipeline.sql": """
-- @materialized: view
SELECT n * 10 AS ten FROM {{ ref('silver.even') }}
""",
    "shop/pipelines/gold/total/pipeline.sql": """
SELECT sum(ten)::BIGINT AS total FROM {{ ref('silver.tens') }}
""",
}


def test_a_view_over_a_view_is_read_where_it_is_named(shop: Shop) -> None:
    shop.publish(VIEWS)

    report = shop.run()

    assert report.succeeded, [each.error for each in report.tables]
    assert shop.rows("shop.gold.total") == [(20,)]
    tables = [str(each) for each in shop.whole.lake.published(at=MAIN)]
    assert sorted(tables) == ["shop.bronze.numbers", "shop.gold.total"]


def test_the_tests_of_a_view_run_against_its_query(shop: Shop) -> None:
    odd = VIEWS["shop/pipelines/silver/even/pipeline.sql"].replace("= 0", "= 1")
    shop.publish(VIEWS | {"shop/pipelines/silver/even/pipeline.sql": odd})

    report = shop.run()

    statuses = {str(each.table): each.status for each in report.tables}
    assert statuses == {
        "shop.bronze.numbers": "published",
        "shop.silver.even": "failed",
        "shop.silver.tens": "skipped",
        "shop.gold.total": "skipped",
    }


def test_what_reads_a_view_follows_the_tables_below_it(shop: Shop) -> None:
    shop.publish(VIEWS)
    shop.run()
    code = NUMBERS["shop/pipelines/bronze/numbers/pipeline.sql"]
    wider = {"shop/pipelines/bronze/numbers/pipeline.sql": code.replace("(3)", "(5)")}
    shop.publish(wider)

    shop.run("shop.bronze.numbers")
    report = shop.run("shop.gold.total", only_changed=True)

    assert report.tables[0].status == "published"
    assert shop.rows("shop.gold.total") == [(60,)]


# Quality.


def test_a_test_that_reads_what_is_not_there_could_not_run(shop: Shop) -> None:
    warns = "shop/pipelines/bronze/numbers/tests/quality/is_known.sql"
    shop.publish(
        NUMBERS
        | {
            "shop/pipelines/bronze/known/pipeline.sql": "SELECT 1 AS n",
            warns: "-- @severity: warn\nFROM {{ this }} ANTI JOIN "
            "{{ ref('bronze.known') }} USING (n)",
        }
    )

    first = shop.run("shop.bronze.numbers")
    shop.run("shop.bronze.known")
    second = shop.run("shop.bronze.numbers")

    assert (first.tables[0].status, first.tables[0].failed) == ("published", 1)
    assert (second.tables[0].status, second.tables[0].warned) == ("published", 1)


def test_a_publication_has_one_intent_and_it_is_closed(shop: Shop) -> None:
    shop.publish(NUMBERS)

    shop.run()

    with shop.whole.metadata.transaction() as tx:
        (publication,) = tx.scalars(select(Publication)).all()
    assert publication.state == PublicationState.CLOSED
