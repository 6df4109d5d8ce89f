"""Maintenance: fewer files, the same rows, and nobody is told that anything changed."""

from typing import Any

import pytest
from sqlalchemy import text

from rat_resources import audit, maintenance, outside, staleness
from rat_resources.errors import NotFoundError
from rat_resources.lake.refs import MAIN
from rat_resources.maintenance import Maintained
from rat_resources.names import TableName
from tests.factories import Shop

BRONZE = TableName("shop", "bronze", "orders")
SILVER = TableName("shop", "silver", "orders")


@pytest.fixture
def scattered(open_shop: Shop) -> Shop:
    """A shop whose orders came in a file each."""
    for number in range(5):
        open_shop.land(f"{number}.csv", f"id,customer,amount\n{number + 10},dan,5\n")
        assert open_shop.run("shop.bronze.orders").succeeded
    assert open_shop.run().succeeded
    return open_shop


def maintain(shop: Shop, *only: TableName, **asked: Any) -> Maintained:
    """Maintain tables of the shop."""
    return maintenance.maintain(shop.whole, only=only, **asked)


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
