"""Restoring: what is stale is run, each by what it takes, in order, and nothing else is."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from rat_assets.restoring import Restoring, Turn, followers, plan
from rat_assets.runner import run
from rat_resources import staleness
from rat_resources.graph import Outline
from rat_resources.names import TableName
from rat_resources.staleness import Cause, Stale, Why
from tests.factories import ORDERS, Shop

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def outlines(**reads: str) -> dict[TableName, Outline]:
    """Pipelines by name, each with its strategy and what it reads: `incremental a b`."""
    found = {}
    for name, said in reads.items():
        strategy, *refs = said.split()
        table = TableName("s", "silver", name)
        above = tuple(TableName("s", "silver", ref) for ref in refs)
        found[table] = Outline(
            uuid.uuid4(), table, above, "eager", is_view=False, hand_written=False,
            strategy=strategy,
        )  # fmt: skip
    return found


def stale(**why: str) -> dict[TableName, Stale]:
    """Stale tables by name, each with its reasons; `new` was never made."""
    found = {}
    for name, said in why.items():
        table = TableName("s", "silver", name)
        reasons = ["definition"] if said == "new" else said.split()
        causes = tuple(
            Cause(
                Why(each),
                "s.silver.x",
                NOW,
                uuid.uuid4() if each == "invalidation" else None,
            )
            for each in reasons
        )
        found[table] = Stale(table, causes, None if said == "new" else NOW)
    return found


def shown(turns: list[Turn]) -> list[str]:
    """The turns in a word each."""
    return [
        f"{turn.kind}: {' '.join(each.table.name for each in turn.stale)}"
        for turn in turns
    ]


CASES: Mapping[str, tuple[dict[str, str], dict[str, str], list[str]]] = {
    "tables that do not read each other share a run": (
        {"a": "full_refresh", "b": "incremental"},
        {"a": "data", "b": "data"},
        ["run: a b"],
    ),
    "each comes after what it reads, also through what is not stale": (
        {"a": "full_refresh", "b": "full_refresh a", "c": "full_refresh b"},
        {"a": "data", "c": "data"},
        ["run: a", "run: c"],
    ),
    "another definition takes a full refresh where rows of the old one would stay": (
        {"a": "incremental", "b": "delete_insert", "c": "full_refresh"},
        {"a": "definition", "b": "definition data", "c": "definition"},
        ["full refresh: a b", "run: c"],
    ),
    "the past that a table keeps is not lost for it": (
        {"a": "scd2", "b": "snapshot", "c": "append_only"},
        {"a": "definition", "b": "definition", "c": "definition"},
        ["run: a b c"],
    ),
    "what was never made is made by an ordinary run": (
        {"a": "incremental"},
        {"a": "new"},
        ["run: a"],
    ),
    "what was invalidated is made good alone": (
        {"a": "incremental", "b": "full_refresh"},
        {"a": "invalidation data", "b": "invalidation"},
        ["invalidation: a", "invalidation: b"],
    ),
    "making the whole table anew makes good what was invalidated, too": (
        {"a": "full_refresh", "b": "incremental"},
        {"a": "invalidation data", "b": "invalidation definition"},
        ["run: a", "full refresh: b"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_stale_table_has_its_turn(case: str) -> None:
    reads, why, expected = CASES[case]

    turns = list(plan(stale(**why), outlines(**reads)))

    assert shown(turns) == expected


def test_what_reads_a_failed_table_is_left_alone() -> None:
    known = outlines(a="full_refresh", b="full_refresh a", c="full_refresh b")
    due = stale(a="data", c="data")
    failed = TableName("s", "silver", "a")

    turns = plan(due, known, tried={(failed, "run")}, failed={failed})

    assert list(turns) == []


def test_what_reads_a_stale_table_may_follow() -> None:
    known = outlines(a="full_refresh", b="full_refresh a", c="full_refresh b")

    assert [each.name for each in followers(stale(a="data"), known)] == ["b", "c"]


def test_what_becomes_stale_by_a_run_has_its_turn_after_it(open_shop: Shop) -> None:
    silver = "shop/pipelines/silver/orders/pipeline.sql"
    open_shop.publish({silver: ORDERS[silver].replace("customer,", "'x' AS customer,")})
    open_shop.land("more.csv", "id,customer,amount\n9,eve,3\n")
    open_shop.notice()

    turns = restore(open_shop)

    assert shown(turns) == ["run: orders", "full refresh: orders", "run: revenue"]
    assert [row[0] for row in open_shop.rows("shop.gold.revenue")] == ["x"]
    assert restore(open_shop) == []


def test_an_invalidation_is_worked_through_hop_by_hop(open_shop: Shop) -> None:
    with open_shop.whole.metadata.transaction() as tx:
        tx.execute(
            text("""
                INSERT INTO trace_by_name.data_invalidations
                    (dataset, scope, partition_key, reason)
                VALUES ('shop.bronze.orders', 'partition', 'all', 'manual')
            """)
        )

    turns = restore(open_shop)

    assert shown(turns)[0] == "invalidation: orders"
    with open_shop.whole.metadata.transaction() as tx:
        assert staleness.load(tx) == {}


def restore(shop: Shop) -> list[Turn]:
    """Run everything that is stale; the turns that it took."""
    turns = []
    for turn in Restoring(shop.whole).turns():
        assert run(shop.whole, turn.ask, instance=shop.instance).succeeded
        turns.append(turn)
    return turns
