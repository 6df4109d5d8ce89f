"""Appending: many at once add to one table, and each row is there once."""

import multiprocessing as mp
import os
from collections.abc import Mapping

import duckdb
import pytest

from rat_resources.errors import CatalogError, LostAnswerError, SchemaChangeError
from rat_resources.lake.appending import Append, append
from rat_resources.lake.refs import MergeResult
from rat_resources.names import TableName
from rat_resources.platform import platform
from tests.factories import Shop

PROCESSES = int(os.environ.get("RAT_APPEND_PROCESSES", "4"))
APPENDS = int(os.environ.get("RAT_APPENDS", "10"))
NUMBERS = TableName("shop", "bronze", "numbers")


@pytest.fixture(params=["embedded", "nessie"])
def shop_of_numbers(request: pytest.FixtureRequest) -> Shop:
    """A shop with a table that has no rows, on either keeper of refs."""
    if request.param == "nessie":
        request.getfixturevalue("nessie")
    shop: Shop = request.getfixturevalue("shop")
    code = "SELECT range AS n FROM range(0)"
    shop.publish({"shop/pipelines/bronze/numbers/pipeline.sql": code})
    assert shop.run().succeeded
    return shop


def add(shop: Shop, number: int) -> str:
    """Append one row."""
    with duckdb.connect() as connection:
        return append(
            shop.whole.lake,
            NUMBERS,
            connection=connection,
            query=f"SELECT {number} AS n",
        )


def add_many(environ: Mapping[str, str], first: int) -> None:
    """Append as one process of many."""
    os.environ.clear()  # the server of forks may be that of another test
    os.environ.update(environ)
    whole = platform()
    for number in range(first, first + APPENDS):
        with duckdb.connect() as connection:
            query = f"SELECT {number} AS n"
            append(whole.lake, NUMBERS, connection=connection, query=query)


def test_processes_that_append_at_once_lose_and_double_nothing(
    shop_of_numbers: Shop,
) -> None:
    context = mp.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    processes = [
        context.Process(target=add_many, args=(dict(os.environ), each * APPENDS))
        for each in range(PROCESSES)
    ]

    for each in processes:
        each.start()
    for each in processes:
        each.join()

    assert [each.exitcode for each in processes] == [0] * PROCESSES
    expected = [(number,) for number in range(PROCESSES * APPENDS)]
    assert shop_of_numbers.rows(str(NUMBERS)) == expected
    assert list(shop_of_numbers.whole.lake.refs.references(prefix="append-")) == []


@pytest.mark.parametrize("arrives", [True, False])
def test_an_append_whose_answer_is_lost_is_there_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, *, arrives: bool
) -> None:
    code = "SELECT range AS n FROM range(0)"
    shop.publish({"shop/pipelines/bronze/numbers/pipeline.sql": code})
    shop.run()
    refs = shop.whole.lake.refs
    merge = refs.merge
    lost: list[bool] = []

    def lose(*asked: object, **named: object) -> MergeResult:
        if lost:
            return merge(*asked, **named)  # type: ignore[arg-type]
        lost.append(arrives)
        if arrives:
            merge(*asked, **named)  # type: ignore[arg-type]
        raise LostAnswerError

    monkeypatch.setattr(refs, "merge", lose)

    commit = add(shop, 7)

    assert shop.rows(str(NUMBERS)) == [(7,)]
    assert shop.main == commit


@pytest.mark.parametrize("answered", [True, False])
def test_a_server_that_goes_right_after_the_merge_makes_nobody_append_twice(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, *, answered: bool
) -> None:
    code = "SELECT range AS n FROM range(0)"
    shop.publish({"shop/pipelines/bronze/numbers/pipeline.sql": code})
    shop.run()
    refs = shop.whole.lake.refs
    merge = refs.merge

    def gone(*asked: object, **named: object) -> MergeResult:
        raise CatalogError

    def merge_and_go(*asked: object, **named: object) -> MergeResult:
        monkeypatch.setattr(refs, "delete", gone)
        merged = merge(*asked, **named)  # type: ignore[arg-type]
        if not answered:
            raise LostAnswerError
        return merged

    monkeypatch.setattr(refs, "merge", merge_and_go)

    if answered:
        assert add(shop, 7) == shop.main
    else:
        with pytest.raises(LostAnswerError, match="before you append them again"):
            add(shop, 7)

    assert shop.rows(str(NUMBERS)) == [(7,)]


def test_rows_of_other_columns_than_the_table_has_by_then_are_refused(
    shop: Shop,
) -> None:
    path = "shop/pipelines/bronze/numbers/pipeline.sql"
    shop.publish({path: "SELECT range AS n FROM range(1)"})
    shop.run()
    rows = Append(shop.whole.lake, NUMBERS)
    before = rows.read(shop.main)
    shop.publish({path: "SELECT range AS n, 1 AS m FROM range(1)"})
    shop.run()

    with pytest.raises(SchemaChangeError, match="meanwhile"):
        rows.attempt([], like=before)
