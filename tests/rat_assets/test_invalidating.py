"""Invalidating by hand: what is refused, who is told, and the runs of it."""

import json
import re

import pytest
from sqlalchemy import text

from rat_assets.invalidating import Ask, invalidate
from rat_resources.errors import AuthorError
from tests.factories import Shop
from tests.rat_assets.test_cli import call

BRONZE, SILVER, GOLD = "shop.bronze.orders", "shop.silver.orders", "shop.gold.revenue"
VIEW = {
    "shop/pipelines/silver/named/pipeline.sql": """
-- @materialized: view
SELECT id, customer FROM {{ ref('silver.orders') }}
""",
    "shop/pipelines/gold/names/pipeline.sql": """
SELECT DISTINCT customer FROM {{ ref('silver.named') }}
""",
}


def invalidations(shop: Shop) -> int:
    with shop.whole.metadata.transaction() as tx:
        return int(
            tx.scalar(text("SELECT count(*) FROM trace.data_invalidations")) or 0
        )


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (Ask("shop.silver.order"), "did you mean shop.silver.orders?"),
        (Ask("nobody"), "no published pipeline writes nobody"),
        (Ask(SILVER, partition="2026"), "has no partition '2026'; it has all"),
        (Ask(SILVER, where="{"), "the filter is no JSON"),
        (Ask(SILVER, where='{"custmer": "ann"}'), "did you mean 'customer'?"),
        (Ask(SILVER, where='{"amount": "much"}'), "does not compare with 'much'"),
        (Ask(SILVER, partition="all", where="{}"), "twice"),
        (Ask(SILVER, columns=("amonut",)), "did you mean 'amount'?"),
        (Ask(SILVER, reason="whim"), "use one of reorg, correction"),
        (Ask("shop.silver.named"), "invalidate what it reads: shop.silver.orders"),
        (Ask("shop.gold.names"), "has not been published yet"),
    ],
)
def test_what_is_not_there_is_refused_by_name(
    open_shop: Shop, ask: Ask, said: str
) -> None:
    open_shop.publish(VIEW)

    with pytest.raises(AuthorError) as refusal:
        invalidate(open_shop.whole, ask, by="ann")

    assert said in str(refusal.value)
    assert invalidations(open_shop) == 0


def test_a_dry_run_says_who_would_be_told_and_writes_nothing(open_shop: Shop) -> None:
    ask = Ask(BRONZE, where='{"customer": "ann"}')

    told = invalidate(open_shop.whole, ask, by="ann", dry_run=True)

    assert told.rows == '{"customer": "ann"}'
    assert [(each.table, each.words) for each in told.readers] == [
        (SILVER, "runs (incremental)")
    ]
    assert told.further == (GOLD,)
    assert invalidations(open_shop) == 0


def test_it_stands_in_the_audit_log(open_shop: Shop) -> None:
    invalidate(open_shop.whole, Ask(SILVER, message="wrong rates"), by="ann")

    with open_shop.whole.metadata.transaction() as tx:
        found = tx.execute(
            text("SELECT user_id, action, resource, detail FROM rat.audit_log")
        )
        last = found.all()[-1]
        event = tx.scalar(text("SELECT source_event FROM trace.data_invalidations"))
    assert tuple(last) == ("ann", "data.invalidate", SILVER, "all rows")
    assert event == {"by": "ann", "message": "wrong rates"}


def test_the_command_works_through_every_hop_without_a_daemon(
    open_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in open_shop.whole.settings.environ.items():
        monkeypatch.setenv(name, value)
    open_shop.publish(VIEW)
    open_shop.run()
    dearer = "SELECT * REPLACE (amount + 1 AS amount, upper(customer) AS customer)"
    open_shop.correct(BRONZE, f'{dearer} FROM "{BRONZE}"')

    result = call("invalidate", BRONZE, "--reason", "correction", "--run")

    assert result.exit_code == 0, result.output
    assert re.search(rf"{SILVER}\s+runs \(incremental\)", result.output)
    assert "then, where their rows change:" in result.output
    assert re.search(r"table\s+made anew\s+rows written\s+because", result.output)
    assert re.search(rf"{re.escape(SILVER)}\s+(table|rows|keys|groups)", result.output)
    with open_shop.whole.metadata.transaction() as tx:
        left = tx.scalar(
            text(
                "SELECT count(*) FROM trace.data_invalidations WHERE processed_at IS NULL"
            )
        )
        ran = tx.execute(
            text("""
            SELECT pipeline.layer || '.' || pipeline.name AS name, count(*) AS runs
            FROM rat.runs AS run JOIN rat.pipelines AS pipeline ON pipeline.id = run.pipeline_id
            WHERE run.trigger LIKE 'invalidation:%' GROUP BY 1 ORDER BY 1
            """)
        )
        runs = {row.name: row.runs for row in ran}
    assert left == 0
    assert runs == dict.fromkeys(
        ("gold.names", "gold.revenue", "silver.named", "silver.orders"), 1
    )
    assert [row[:2] for row in open_shop.rows(GOLD)] == [("ANN", 11), ("BOB", 21)]


def test_the_command_speaks_json(
    open_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in open_shop.whole.settings.environ.items():
        monkeypatch.setenv(name, value)

    result = call("invalidate", SILVER, "--json", "--dry-run", "--columns", "amount")

    told = json.loads(result.output)
    assert told["dependents"] == [
        {"table": GOLD, "strategy": "full_refresh", "runs": True}
    ]
    assert (told["id"], told["dry_run"]) == (None, True)
