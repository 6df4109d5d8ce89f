"""Selections: which pipelines a person means."""

import pytest

from rat_assets.selection import select
from rat_resources.errors import NotFoundError
from rat_resources.names import TableName


def table(name: str) -> TableName:
    return TableName.parse(name)


READS = {
    table("shop.gold.revenue"): [table("shop.silver.orders")],
    table("shop.silver.orders"): [table("shop.bronze.orders")],
    table("shop.bronze.orders"): [],
    table("shop.bronze.people"): [table("crm.bronze.gone")],
    table("crm.bronze.people"): [],
}


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        (["shop.silver.orders"], ["shop.silver.orders"]),
        (["shop.bronze.*"], ["shop.bronze.orders", "shop.bronze.people"]),
        (["*.people"], ["crm.bronze.people", "shop.bronze.people"]),
        (["shop.?????r.orders"], ["shop.silver.orders"]),
        (["crm"], ["crm.bronze.people"]),
        (
            ["shop.gold.revenue", "shop.bronze.orders"],
            ["shop.bronze.orders", "shop.gold.revenue"],
        ),
        (["crm", "crm.bronze.people"], ["crm.bronze.people"]),
    ],
    ids=["a name", "a layer", "a star", "a mark", "a namespace", "order", "twice"],
)
def test_a_word_names_pipelines(words: list[str], chosen: list[str]) -> None:
    assert [str(each) for each in select(READS, words)] == chosen


@pytest.mark.parametrize(
    ("arrows", "chosen"),
    [
        ({"downstream": True}, ["silver.orders", "gold.revenue"]),
        ({"upstream": True}, ["bronze.orders", "silver.orders"]),
        (
            {"downstream": True, "upstream": True},
            ["bronze.orders", "silver.orders", "gold.revenue"],
        ),
    ],
)
def test_what_follows_and_what_precedes_comes_along(
    arrows: dict[str, bool], chosen: list[str]
) -> None:
    found = select(READS, ["shop.silver.orders"], **arrows)

    assert [str(each) for each in found] == [f"shop.{each}" for each in chosen]


def test_everything_is_everything_in_dependency_order() -> None:
    found = select(READS, [], everything=True)

    assert set(found) == set(READS)
    places = [found.index(each) for each in reversed(list(READS)[:3])]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("shop.silver.order", "did you mean shop.silver.orders?"),
        ("shp", "did you mean shop?"),
        ("silver.orders", "orders"),
        ("nothing.at.all", "crm, shop"),
        ("crm.gold.*", "crm"),
    ],
)
def test_a_word_that_names_nothing_is_met_with_a_guess(word: str, said: str) -> None:
    with pytest.raises(NotFoundError, match=r"no published pipeline") as caught:
        select(READS, [word])

    assert said in str(caught.value)


def test_one_wrong_word_spoils_the_selection() -> None:
    with pytest.raises(NotFoundError, match=r"shop\.bronze\.missing"):
        select(READS, ["crm", "shop.bronze.missing"])


def test_before_the_first_publish_there_is_advice() -> None:
    with pytest.raises(NotFoundError, match="rat publish"):
        select({}, ["shop"])
