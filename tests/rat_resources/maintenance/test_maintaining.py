"""Maintenance: fewer files, the same rows, and nobody is told that anything changed."""

from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from rat_resources import audit, faults, outside, staleness
from rat_resources.errors import RatError
from rat_resources.lake.appending import Append, append
from rat_resources.lake.writing import write_files
from rat_resources.maintenance import compacting, maintaining
from rat_resources.maintenance.holding import holding
from rat_resources.maintenance.maintaining import Maintained
from rat_resources.names import TableName
from tests.factories import Shop
from tests.servers.nessie import Nessie

AT_ONCE = timedelta(0)
BRONZE = TableName("shop", "bronze", "orders")


@pytest.fixture
def scattered(open_shop: Shop) -> Shop:
    """A shop whose orders came in a file each."""
    for number in range(5):
        open_shop.land(f"{number}.csv", f"id,customer,amount\n{number + 10},dan,5\n")
        assert open_shop.run("shop.bronze.orders").succeeded
    assert open_shop.run().succeeded
    return open_shop


def maintain(shop: Shop, *only: TableName, **asked: Any) -> Maintained:  # noqa: ANN401 - what maintain takes
    """Maintain tables of the shop."""
    return maintaining.maintain(shop.whole, only=only, **asked)


def files(shop: Shop, name: TableName) -> int:
    """How many data files a table has on main."""
    (table,) = shop.whole.lake.tables([name]).values()
    return len(list(table.scan().plan_files()))


def test_small_files_become_one_and_nobody_is_told(scattered: Shop) -> None:
    rows, files_before = scattered.rows(str(BRONZE)), files(scattered, BRONZE)
    before = scattered.main
    told = len(scattered.materializations(str(BRONZE)))

    done = maintain(scattered, BRONZE)

    assert scattered.rows(str(BRONZE)) == rows
    assert (files_before, files(scattered, BRONZE)) == (6, 1)
    assert maintain(scattered, BRONZE).plans == []
    assert done.problems == []
    assert len(scattered.materializations(str(BRONZE))) == told
    assert outside.look(scattered.whole, since=before) == (scattered.main, [])
    assert outside.look(scattered.whole, since=None) == (scattered.main, [])
    with scattered.whole.metadata.transaction() as tx:
        assert staleness.load(tx) == {}
    report = scattered.run(only_changed=True)
    assert report.succeeded
    assert [each.status for each in report.tables] == ["unchanged"] * len(report.tables)
    scattered.run()
    assert list(audit.audit(scattered.whole).lines) == []


def test_one_who_appends_meanwhile_loses_nothing(scattered: Shop) -> None:
    before = scattered.main
    (base,) = scattered.whole.lake.tables([BRONZE], at=f"@{before}").values()
    rows = scattered.rows(str(BRONZE))
    work = Append(scattered.whole.lake, BRONZE)
    with scattered.whole.lake.connect() as connection:
        query = "SELECT 99 AS id, 'eve' AS customer, 1 AS amount, now() AS loaded_at"
        new = write_files(connection, query, metadata=base.metadata, io=base.io)

    maintain(scattered, BRONZE)
    commit = work.attempt(new, like=base)

    assert commit == scattered.main
    assert len(scattered.rows(str(BRONZE))) == len(rows) + 1
    assert scattered.rows(str(BRONZE), at=f"@{before}") == rows


def test_a_table_that_somebody_else_commits_to_is_left_for_the_next_time(
    scattered: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite = compacting.rewrite

    def meanwhile(*args: Any, **words: Any) -> Any:  # noqa: ANN401 - whatever it takes
        scattered.correct(str(BRONZE), f'SELECT * FROM "{BRONZE}" WHERE id > 10')
        return rewrite(*args, **words)

    monkeypatch.setattr(compacting, "rewrite", meanwhile)
    done = maintain(scattered, BRONZE)

    assert done.problems == [f"{BRONZE}: somebody else committed to it meanwhile"]
    assert min(row[0] for row in scattered.rows(str(BRONZE))) == 11
    assert scattered.holders == 0


def test_a_run_keeps_it_away(scattered: Shop) -> None:
    pipeline_id = maintaining.pipeline_ids(scattered.whole)[BRONZE]
    before = scattered.main

    with holding(scattered.whole.metadata, pipeline_id, patience=AT_ONCE):
        done = maintain(scattered, BRONZE, patience=AT_ONCE)

    assert scattered.main == before
    assert done.problems == [
        f"{BRONZE}: a run of its pipeline is active; it is left for the next time"
    ]


@pytest.mark.parametrize(
    "fault",
    ["write", "commit", "merge_sent", "merge_answered", "transaction"],
)
def test_whoever_fails_half_way_leaves_main_as_it_was(
    scattered: Shop, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    rows, before = scattered.rows(str(BRONZE)), scattered.main
    monkeypatch.setenv(faults.VARIABLE, f"{fault}:drop")
    monkeypatch.setattr(faults, "come_to", Counter())

    with suppress(RatError):
        maintain(scattered, BRONZE)
    left = scattered.main
    monkeypatch.delenv(faults.VARIABLE)
    maintain(scattered, BRONZE)

    assert left == before
    assert scattered.rows(str(BRONZE)) == rows
    assert files(scattered, BRONZE) == 1
    assert list(audit.audit(scattered.whole).lines) == []


def test_a_server_that_merged_and_did_not_answer_is_asked_what_became_of_it(
    nessie: Nessie, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    del nessie  # it set the environment
    shop: Shop = request.getfixturevalue("shop")
    shop.publish()
    shop.land("first.csv", "id,customer,amount\n1,ann,10\n")
    assert shop.run().succeeded
    for number in range(4):
        query = (
            f"SELECT {number} AS id, 'eve' AS customer, 1 AS amount, now() AS loaded_at"
        )
        with shop.whole.lake.connect() as connection:
            append(shop.whole.lake, BRONZE, connection=connection, query=query)
    rows = shop.rows(str(BRONZE))
    said: list[str] = []
    monkeypatch.setenv(faults.VARIABLE, "merge_answered:drop")
    monkeypatch.setattr(faults, "come_to", Counter())

    done = maintain(shop, BRONZE, say=said.append)

    assert done.done[0].commits == [shop.main]
    assert said[0] == f"maintenance of {BRONZE}: its process is gone, but had merged"
    assert shop.rows(str(BRONZE)) == rows
    assert files(shop, BRONZE) == 1
