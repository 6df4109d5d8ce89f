"""What others see and do: PyIceberg's own REST catalog, and DuckDB's Iceberg extension.

They know nothing of RAT: one asks Nessie's Iceberg REST interface, the other reads the files.
"""

import os
from collections.abc import Callable
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog, load_catalog

from rat_resources.lake.refs import MAIN
from rat_resources.publishing import Served
from tests.factories import Shop
from tests.rat_resources.lake.readers import extension
from tests.servers.nessie import Nessie
from tests.servers.s3 import KEY, REGION, SECRET, S3Server

GOLD = "shop.gold.revenue"
BRONZE = "shop.bronze.orders"
FIRST = "id,customer,amount\n1,ann,10\n2,bob,20\n"
SECOND = "id,customer,amount\n3,cid,30\n"
ON_SERVERS = pytest.mark.parametrize("settings", ["nessie+s3_warehouse"], indirect=True)
ANYWHERE = pytest.mark.parametrize(
    "settings", ["embedded", "nessie+s3_warehouse"], indirect=True
)

Rows = list[tuple[Any, ...]]


@pytest.fixture
def outside(nessie: Nessie, s3_server: S3Server) -> Catalog:
    """Somebody else's catalog of the branch that RAT publishes to."""
    return load_catalog(
        "outside",
        type="rest",
        uri=f"{nessie.iceberg}/{os.environ['RAT_NESSIE_BRANCH']}",
        **{
            "s3.endpoint": s3_server.endpoint,
            "s3.access-key-id": KEY,
            "s3.secret-access-key": SECRET,
            "s3.region": REGION,
        },
    )


def read_outside(catalog: Catalog, table: str) -> Rows:
    rows = catalog.load_table(tuple(table.split("."))).scan().to_arrow().to_pylist()
    return sorted((tuple(row.values()) for row in rows), key=repr)


def append_outside(catalog: Catalog, row: dict[str, Any]) -> None:
    """One row more in bronze, by somebody who knows nothing of branches."""
    table = catalog.load_table(tuple(BRONZE.split(".")))
    schema = table.schema().as_arrow()
    whole = {name: row.get(name) for name in schema.names}
    table.append(pa.Table.from_pylist([whole], schema=schema))


def read_by_duckdb(location: str, s3_server: S3Server) -> Rows:
    """What DuckDB's own Iceberg reader finds behind a metadata file."""
    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as connection:
        for name in ("httpfs", "avro", "iceberg"):
            connection.load_extension(str(extension(name)))
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            "CREATE SECRET (TYPE s3, KEY_ID ?, SECRET ?, REGION ?, ENDPOINT ?,"
            " URL_STYLE 'path', USE_SSL false)",
            [KEY, SECRET, REGION, s3_server.endpoint.removeprefix("http://")],
        )
        found = connection.execute("SELECT * FROM iceberg_scan(?)", [location])
        return sorted(found.fetchall(), key=repr)


def metadata_of(shop: Shop, table: str) -> str:
    found = shop.whole.lake.catalog(MAIN).load_table(tuple(table.split(".")))
    return str(found.metadata_location)


def opened(shop: Shop) -> Shop:
    """The shop with its first orders in gold."""
    shop.publish()
    shop.land("first.csv", FIRST)
    assert shop.run().succeeded
    return shop


def ids(shop: Shop) -> list[int]:
    return sorted(row[0] for row in shop.rows(BRONZE))


@ANYWHERE
def test_duckdbs_iceberg_extension_reads_the_same_rows(
    shop: Shop, s3_server: S3Server
) -> None:
    opened(shop)

    for table in (BRONZE, GOLD):
        theirs = read_by_duckdb(metadata_of(shop, table), s3_server)
        assert theirs == sorted(shop.rows(table), key=repr)


@ON_SERVERS
def test_pyicebergs_rest_catalog_lists_and_reads_what_is_published(
    shop: Shop, outside: Catalog
) -> None:
    opened(shop)

    assert outside.list_tables(("shop", "gold")) == [("shop", "gold", "revenue")]
    assert read_outside(outside, GOLD) == sorted(shop.rows(GOLD), key=repr)


@ON_SERVERS
def test_what_another_engine_appends_between_two_runs_stays(
    shop: Shop, outside: Catalog
) -> None:
    opened(shop)
    append_outside(outside, {"id": 9, "customer": "eve", "amount": 90})
    shop.land("second.csv", SECOND)

    report = shop.run()

    assert report.succeeded
    assert ids(shop) == [1, 2, 3, 9]
    assert len(read_outside(outside, BRONZE)) == 4


@ON_SERVERS
def test_what_another_engine_appends_during_a_run_stays(
    shop: Shop, outside: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(shop)
    shop.land("second.csv", SECOND)
    once = iter([{"id": 9, "customer": "eve", "amount": 90}])
    rehearse: Callable[..., None] = Served.rehearse

    def meddle(self: Served, *args: Any, **named: Any) -> None:  # noqa: ANN401
        for row in once:
            append_outside(outside, row)
        rehearse(self, *args, **named)

    monkeypatch.setattr(Served, "rehearse", meddle)

    report = shop.run()

    assert report.succeeded
    assert ids(shop) == [1, 2, 3, 9]
    assert shop.branches == []
