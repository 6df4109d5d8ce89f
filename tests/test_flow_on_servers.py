"""The whole story on a company's servers: Nessie, S3, and a Postgres behind a pooler with TLS.

`test_flow` tells it on what is embedded, and on Nessie and S3; here everything that people do
afterwards is done too, by the commands that they have.
"""

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from dagster import DagsterInstance

from rat_assets.cli import rat
from rat_resources.lake.nessie_refs import NessieRefs
from rat_resources.metadata import addresses
from rat_resources.platform import opened, platform
from rat_resources.settings import Settings
from tests.factories import ORDERS, Shop
from tests.servers.postgres import PostgresServer

JANUARY = "id,customer,amount\n1,ann,10.50\n2,bob,20\n3,,5\n"
FEBRUARY = "id,customer,amount\n2,bob,25\n4,ann,1.50\n"
BROKEN = "id,customer,amount\n5,eve,-1\n"
REVENUE = "shop/pipelines/gold/revenue/pipeline.sql"


def call(*words: str, expect: int = 0) -> str:
    """What a rat command prints."""
    done = CliRunner().invoke(rat, [*words], catch_exceptions=False)
    assert done.exit_code == expect, done.output
    return done.output


def ask(*words: str) -> Any:  # noqa: ANN401 - JSON
    """What a rat command says to a program."""
    return json.loads(call(*words, "--json"))


@pytest.fixture
def far_shop(
    postgres_server: PostgresServer,
    rat_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Shop]:
    """A RAT that has nothing on this machine but its RAT_HOME."""
    role = postgres_server.make_role()
    database = postgres_server.make_database(role)
    monkeypatch.setenv("RAT_HOME", str(rat_home))
    for pooled in (False, postgres_server.pooler is not None):
        url = addresses.write(postgres_server.url(database, role=role, pooled=pooled))
        monkeypatch.setenv("RAT_POSTGRES_URL", url)
        if not pooled:
            call("migrate")
            opened.cache_clear()
    with DagsterInstance.from_config(str(Settings.load().dagster_home)) as instance:
        whole = platform()
        yield Shop(whole, instance, tmp_path / "project")
        whole.metadata.dispose()
        opened.cache_clear()


@pytest.mark.usefixtures("nessie", "s3_store", "s3_warehouse")
def test_all_that_people_do_is_done_on_their_servers(far_shop: Shop) -> None:
    shop = far_shop
    assert isinstance(shop.whole.lake.refs, NessieRefs)
    shop.publish()
    shop.land("january.csv", JANUARY)

    # Files come out in gold.
    assert shop.run().succeeded
    first = shop.main
    shop.land("february.csv", FEBRUARY)
    assert shop.run().succeeded
    assert shop.rows("shop.gold.revenue") == [
        ("ann", Decimal("12.00"), 2),
        ("bob", Decimal("25.00"), 1),
        (None, Decimal("5.00"), 1),
    ]

    # What fails its tests stays out.
    before = shop.main
    broken = shop.land("broken.csv", BROKEN)
    failed, *_ = shop.run().tables
    assert (failed.status, failed.failed) == ("failed", 1)
    assert (shop.main, shop.branches) == (before, [])
    call("reject", "shop/orders", broken.name)

    # What was published can be asked for, now and then.
    assert {each["table"] for each in ask("tables")} == {
        "shop.bronze.orders",
        "shop.silver.orders",
        "shop.gold.revenue",
    }
    count = "SELECT count(*) AS n FROM shop.gold.revenue"
    assert "3" in call("query", count)
    assert "3" in call("query", count, "--ref", first[:12])
    assert "customer" in call("lineage", "shop.gold.revenue.customer")
    assert len(ask("runs")) == 7

    # Code goes on, and back.
    shop.publish({**ORDERS, REVENUE: f"{ORDERS[REVENUE]}\n-- said anew\n"})
    call("rollback", "1")

    # Everything agrees, and nothing is left.
    assert call("reconcile") == "nothing was left open\n"
    assert "0 differences" in call("audit")
    call("doctor")
    assert shop.branches == []
