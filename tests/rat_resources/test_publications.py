"""Publications: what was intended, until it is closed."""

import pytest

from rat_resources import publications
from rat_resources.errors import CancelledError
from rat_resources.metadata.runs import PublicationState
from tests.factories import Shop
from tests.rat_resources.ready import Ready, make_ready


@pytest.fixture
def ready(shop: Shop) -> Ready:
    """A run with a branch that holds a table of its own."""
    return make_ready(shop)


def test_a_run_that_dagster_stops_may_not_even_intend(ready: Ready) -> None:
    ready.cancel()

    with pytest.raises(CancelledError, match="CANCELING"):
        ready.intend()

    assert ready.state is None


def test_an_open_publication_is_listed_until_it_is_closed(ready: Ready) -> None:
    ready.intend()
    ready.publish()

    listed = []
    for _ in range(2):
        with ready.shop.whole.metadata.transaction() as tx:
            listed.append(len(publications.open_intents(tx)))
            publications.close(tx, ready.intent.hold.run_id)

    assert listed == [1, 0]
    assert ready.state == PublicationState.CLOSED


def test_what_is_published_can_not_be_undone(ready: Ready) -> None:
    ready.intend()
    ready.publish()

    with ready.shop.whole.metadata.transaction() as tx:
        publications.undo(tx, ready.intent.hold.run_id)

    assert ready.state == PublicationState.PUBLISHED
