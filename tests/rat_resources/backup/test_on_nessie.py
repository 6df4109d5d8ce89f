"""Backups of a RAT on a Nessie server: what its branches held is put back where the server has lost it."""

import uuid
from pathlib import Path

import pytest
from sqlalchemy import URL

from rat_resources import audit
from rat_resources.backup import restoring
from rat_resources.backup.taking import back_up
from rat_resources.errors import BackupError
from rat_resources.lake.refs import MAIN, ReferenceType
from rat_resources.metadata.runs import RunStatus
from rat_resources.settings import Settings
from tests.factories import Shop
from tests.hooks import when
from tests.rat_resources.backup.fresh import empty_database, reopened
from tests.servers.nessie import Nessie

TABLES = ("shop.bronze.orders", "shop.silver.orders", "shop.gold.revenue")


@pytest.fixture
def opened_shop(nessie: Nessie, shop: Shop) -> Shop:
    """A shop on a server, whose first orders are in gold."""
    del nessie
    shop.publish()
    shop.land("first.csv", "id,customer,amount\n1,ann,10\n2,bob,20\n")
    assert shop.run().succeeded
    return shop


def test_a_rat_whose_server_is_lost_too_goes_on(
    opened_shop: Shop, tmp_path: Path, server: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, file = opened_shop.whole, tmp_path / "rat.backup"
    before = {table: opened_shop.rows(table) for table in TABLES}
    whole.lake.refs.create("release-1", kind=ReferenceType.TAG)
    whole.lake.refs.create("somebody-s-own")
    opened_shop.land("second.csv", "id,customer,amount\n3,cyd,30\n")
    with when("publish", lambda: back_up(whole, file)):
        opened_shop.run("shop.bronze.orders")
    # Another branch of the server is another server to RAT.
    monkeypatch.setenv("RAT_NESSIE_BRANCH", f"test/{uuid.uuid4().hex}")

    with empty_database(server, monkeypatch):
        restored = restoring.restore(Settings.load(), file)

        with reopened(opened_shop) as shop:
            restoring.settle(shop.whole, shop.instance)
            assert {table: shop.rows(table) for table in TABLES} == before
            refs = shop.whole.lake.refs
            kinds = {each.name: each.type.value for each in refs.references()}
            assert kinds == {
                MAIN: "BRANCH",
                "release-1": "TAG",
                "somebody-s-own": "BRANCH",
            }
            assert shop.rows("shop.gold.revenue", at="release-1")
            assert [run.status for run in shop.runs()][-1] == RunStatus.FAILED
            assert list(audit.audit(shop.whole).lines) == []
            assert shop.run().succeeded
            assert len(shop.rows("shop.bronze.orders")) == 3
            assert list(audit.audit(shop.whole).lines) == []
    assert len(restored.lines) == 3


def test_a_main_that_went_on_is_taken_back_only_when_asked(
    opened_shop: Shop, tmp_path: Path
) -> None:
    settings, file = opened_shop.whole.settings, tmp_path / "rat.backup"
    refs, was = opened_shop.whole.lake.refs, opened_shop.main
    back_up(opened_shop.whole, file)
    opened_shop.land("second.csv", "id,customer,amount\n3,cyd,30\n")
    assert opened_shop.run("shop.bronze.orders").succeeded
    since = opened_shop.main

    with pytest.raises(BackupError, match="main is 1 commits ahead of the backup"):
        restoring.restore(settings, file, force=True)
    assert len(opened_shop.runs()) == 4
    restoring.restore(settings, file, force=True, reset_main=True)

    assert opened_shop.main == was
    assert refs.head(f"before-restore-{since[:12]}") == since
    assert len(opened_shop.runs()) == 3
    assert list(audit.audit(opened_shop.whole).lines) == []
