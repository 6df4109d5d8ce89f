"""What an alert would raise now, tried against what is published."""

import json

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import func, select

from rat_assets.cli import rat
from rat_resources.metadata.trace.alerts import AlertEvent
from rat_resources.platform import platform
from tests.factories import Shop
from tests.rat_assets.test_alerting import DEAR, audited, define
from tests.rat_resources.alerts.receiver import receiving

CHEAP = DEAR | {"op": "lt", "value": 15}
GOLD = "shop.gold.revenue"


def try_alert(*arguments: str) -> Result:
    """What the command says."""
    return CliRunner().invoke(rat, ["alert", "test", *arguments])


def test_a_test_shows_what_would_be_raised_and_writes_nothing(open_shop: Shop) -> None:
    whole = open_shop.whole
    define(whole, "cheap", "threshold", CHEAP)
    define(whole, "old", "freshness", {"dataset": GOLD, "max_age_minutes": 0})
    define(whole, "runs", "run_status", {"statuses": ["success"], "pipelines": ["*"]})
    define(whole, "asked", "sql", {"query": f"SELECT customer FROM {GOLD}"})
    define(whole, "never", "threshold", DEAR | {"value": 1e9})

    names = ("cheap", "shop/old", "shop.runs", "asked", "never")
    results = [try_alert(name) for name in names]

    said = "".join(each.stdout for each in results)
    assert {each.exit_code for each in results} == {0}
    with whole.metadata.transaction() as tx:
        assert tx.scalar(select(func.count()).select_from(AlertEvent)) == 0
    assert "shop/cheap would raise 1 alert now\n" in said
    assert "1 row has amount < 15 in shop.silver.orders" in said
    assert "ann" in said
    assert (
        "shop/old would raise 1 alert now\n  shop.gold.revenue was last published"
        in said
    )
    assert "shop/runs would raise 3 alerts now\n" in said
    assert "its query returned 2 rows" in said
    assert "shop/never would raise nothing now\n" in said


def test_a_test_says_what_cannot_be_evaluated_and_what_is_not_there(
    open_shop: Shop,
) -> None:
    define(open_shop.whole, "broken", "threshold", DEAR | {"column": "amout"})
    nothing = {"dataset": "shop.gold.nothing", "column": "x", "op": "lt", "value": 1}
    define(open_shop.whole, "nothing", "threshold", nothing)

    broken, nowhere = try_alert("broken", "--json"), try_alert("nothing")
    unknown = try_alert("brokn")

    said = json.loads(broken.stdout)
    assert [broken.exit_code, nowhere.exit_code, unknown.exit_code] == [1, 1, 1]
    assert said["alert"] == "shop/broken"
    assert said["trouble"] == (
        "the condition names the column 'amout', which is not there; did you mean 'amount'?"
    )
    assert "no such table on main yet" in nowhere.stdout
    assert "did you mean broken?" in unknown.stderr


def test_one_test_message_is_sent_that_says_it_is_one(
    open_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAT_ALERT_ALLOW_LOOPBACK", "1")
    with receiving() as receiver:
        channels = {"webhook": {"url": receiver.url}}
        define(open_shop.whole, "cheap", "threshold", CHEAP, channels=channels)
        define(open_shop.whole, "silent", "threshold", CHEAP)

        sent, silent = try_alert("cheap", "--send"), try_alert("silent", "--send")
    # Other settings are another platform than the shop's.
    platform().metadata.dispose()

    [request] = receiver.requests
    assert (sent.exit_code, silent.exit_code) == (0, 1)
    assert "test message by webhook: delivered" in sent.stdout
    assert "no channel of it wants to hear of this" in silent.stdout
    assert "This is a test: cheap: 1 row has amount < 15" in str(request.document)
    assert audited(open_shop.whole) == []
