"""Lineage in Postgres: following arrows, however many there are."""

import pytest

from rat_resources import lineage
from rat_resources.names import ColumnName
from tests.factories import Shop


def test_more_columns_are_followed_than_a_statement_takes(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lineage, "AT_ONCE", 1)
    shop.publish()
    shop.land("a.csv", "id,customer,amount\n1,ann,5\n")
    shop.run()
    gold = [ColumnName("shop.gold.revenue", name) for name in ("customer", "revenue")]

    with shop.whole.metadata.transaction() as tx:
        arrows = lineage.upstream(tx, gold)

    assert {str(each) for each in arrows if "landing" in each.dataset} == {
        "shop.landing.orders.customer",
        "shop.landing.orders.amount",
    }


def test_a_reader_is_indifferent_to_columns_that_nothing_in_it_goes_by(
    open_shop: Shop,
) -> None:
    readers = ["shop.gold.revenue", "shop.gold.unknown"]

    def indifferent(*columns: str) -> set[str]:
        asked = [ColumnName("shop.silver.orders", each) for each in columns]
        with open_shop.whole.metadata.transaction() as tx:
            return lineage.indifferent(tx, readers, columns=asked)

    assert indifferent("id", "loaded_at") == {"shop.gold.revenue"}
    assert indifferent("id", "amount") == set()  # a value
    assert indifferent("customer") == set()  # a group
