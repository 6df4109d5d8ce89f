"""What Dagster is told of a table when alerts about it begin or end."""

from collections.abc import Iterator

import dagster as dg
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from rat_resources.alerts import events
from rat_resources.alerts.events import Event, Payload, Raised
from rat_resources.alerts.observations import observe
from rat_resources.metadata import Metadata
from tests.rat_resources.rows import make_pipeline


@pytest.fixture
def tx(metadata: Metadata) -> Iterator[Session]:
    """A transaction in which a pipeline is published."""
    with metadata.transaction() as tx:
        make_pipeline(tx)
        tx.execute(text("UPDATE rat.pipelines SET published_at = now()"))
        yield tx


def table_of(tx: Session) -> str:
    """The table that the pipeline writes."""
    name = "SELECT concat_ws('.', namespace, layer, name) FROM rat.pipelines"
    return str(tx.execute(text(name)).scalar_one())


def raise_alert(tx: Session, table: str, *, title: str = "it is late") -> Raised:
    """Let something be raised about a table."""
    payload = Payload(kind="freshness", title=title, table=table)
    event = Event(f"alert:x:{title}", payload, raises=title)
    assert events.add(tx, event) is not None
    return events.raised(tx, [None])[None, title]


def test_a_table_is_observed_when_its_alerts_change_and_not_again(tx: Session) -> None:
    table = table_of(tx)
    nothing, first = observe(tx, None)
    over = raise_alert(tx, table)
    begun, second = observe(tx, first)
    same, third = observe(tx, second)
    calm = Payload(kind="freshness", title="it came", table=table)
    events.add(tx, events.resolution(over, calm))
    ended, _ = observe(tx, third)

    assert (nothing, same) == ([], [])
    [seen] = begun
    assert seen.asset_key == dg.AssetKey(table.split("."))
    assert seen.metadata["open_alerts"].value == 1
    [calmed] = ended
    assert calmed.metadata["open_alerts"].value == 0


@pytest.mark.parametrize("cursor", ["", "nonsense", "[1]", '{"a.b.c": "gone"}'])
def test_whatever_stands_in_the_cursor_what_is_raised_is_told(
    tx: Session, cursor: str
) -> None:
    raise_alert(tx, table_of(tx))

    found, _ = observe(tx, cursor)

    assert [each.metadata["open_alerts"].value for each in found] == [1]


def test_a_table_that_nobody_publishes_is_no_asset(tx: Session) -> None:
    raise_alert(tx, "nobody.gold.knows")

    found, _ = observe(tx, None)

    assert found == []
