"""Maintenance: fewer files, the same rows, and nobody is told that anything changed."""

from rat_resources import maintenance, outside
from rat_resources.audit import audit
from rat_resources.lake.appending import append
from rat_resources.lake.partitions import difference
from rat_resources.names import TableName
from tests.factories import Shop

BRONZE = TableName("shop", "bronze", "orders")


def scatter(shop: Shop, *, times: int = 6) -> None:
    """Append rows to bronze, a file at a time."""
    for number in range(times):
        with shop.whole.lake.connect() as connection:
            append(
                shop.whole.lake,
                BRONZE,
                connection=connection,
                query=f"SELECT {100 + number} AS id, 'dan' AS customer, 5 AS amount, now() AS loaded_at",
            )


def test_small_files_become_one_with_the_same_rows(open_shop: Shop) -> None:
    scatter(open_shop)
    before = open_shop.rows(str(BRONZE))
    said = []

    done = maintenance.maintain(open_shop.whole, only=[BRONZE], say=said.append)
    again = maintenance.maintain(open_shop.whole, only=[BRONZE])

    assert open_shop.rows(str(BRONZE)) == before
    print(said, done.to_json())
    assert again.plans == []
