"""`rat alerts`, and what Dagster shows of a table's alerts."""

import json
import uuid

import dagster as dg
import pytest
from sqlalchemy import text

from rat_resources.metadata.trace.alerts import AlertDelivery, AlertEvent
from tests.factories import Shop
from tests.rat_assets.test_cli import call

DEAR = """
condition: {kind: threshold, dataset: silver.orders, column: amount, op: gt, value: 0}
severity: critical
owner: ops@example.com
channels:
  slack: {webhook_url: env:OPS}
"""
LATE = "condition: {kind: freshness, dataset: silver.orders, max_age_minutes: 60}\n"


def define(shop: Shop) -> None:
    """Publish two alerts."""
    shop.write("shop/alerts/dear.yaml", DEAR)
    shop.write("shop/alerts/late.yaml", LATE)
    shop.publish()


@pytest.fixture
def alarmed_shop(open_shop: Shop) -> Shop:
    """A shop in which an alert is raised by a publication."""
    define(open_shop)
    open_shop.land("more.csv", "id,customer,amount\n7,ann,70\n")
    assert open_shop.run("shop.bronze.orders", "shop.silver.orders").succeeded
    return open_shop


def test_an_alert_that_is_raised_is_seen_everywhere(alarmed_shop: Shop) -> None:
    untold = call("alerts").output
    event_id = deliver(alarmed_shop)

    listed = call("alerts").output
    of_table = json.loads(call("alerts", "shop.silver.orders", "--json").output)
    past = call("alerts", "--all").output
    defined = call("alerts", "--definitions").output
    [found] = of_table

    assert "nobody: not yet" in untold
    assert "shop/dear" in listed
    assert "slack retrying" in listed
    assert found["event_id"] == str(event_id)
    assert (found["severity"], found["state"]) == ("critical", "firing")
    assert found["deliveries"][0]["error"] == "it hangs"
    assert "firing" in past
    assert "shop/alerts/dear.yaml" in defined
    assert "nobody" in defined
    newest = alarmed_shop.materializations("shop.silver.orders")[0]
    shown = newest.asset_materialization
    assert shown is not None
    assert shown.metadata["open_alerts"].value == 1
    table = shown.metadata["alerts"]
    assert isinstance(table, dg.TableMetadataValue)
    assert [each.data["alert"] for each in table.records] == ["shop/dear", "shop/late"]


def deliver(shop: Shop) -> uuid.UUID:
    """Let a message about the event that is raised be on its way; the event."""
    with shop.whole.metadata.transaction() as tx:
        event = tx.query(AlertEvent).one()
        tx.add(
            AlertDelivery(
                org_id=event.org_id,
                alert_event_id=event.id,
                channel="slack",
                status="retrying",
                attempt=2,
                error_message="it hangs",
            )
        )
        return event.id


def test_definitions_are_printed_without_a_secret(open_shop: Shop) -> None:
    define(open_shop)
    with open_shop.whole.metadata.transaction() as tx:
        tx.execute(
            text(
                "UPDATE trace.alert_definitions SET enabled = false WHERE name = 'late'"
            )
        )

    shown = json.loads(call("alerts", "--definitions", "--json").output)
    printed = call("alerts", "--definitions").output

    assert [each["name"] for each in shown] == ["dear", "late"]
    assert shown[0]["channels"] == {"slack": {"webhook_url": "env:OPS"}}
    assert shown[0]["file"] == "shop/alerts/dear.yaml"
    assert "switched off" in printed


def test_where_nothing_is_raised_it_says_so(open_shop: Shop) -> None:
    quiet = call("alerts").output
    past = call("alerts", "--all").output
    wrong = call("alerts", "shop.silver.oders")

    assert "no alert is raised; none is defined" in quiet
    assert "nothing has happened" in past
    assert open_shop.materializations("shop.silver.orders")
    assert wrong.exit_code == 1
    assert "did you mean shop.silver.orders?" in wrong.output
