"""Backups: a RAT that loses everything but its data files is what it was, and goes on from there."""

import json
import zipfile
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import URL, text
from sqlalchemy.exc import OperationalError

from rat_assets.commands import backing_up
from rat_resources import audit
from rat_resources.backup import restoring, tables, taking
from rat_resources.backup.container import MANIFEST, reading
from rat_resources.backup.taking import back_up
from rat_resources.errors import BackupError, ConflictError
from rat_resources.metadata import addresses
from rat_resources.metadata.landing import ClaimState
from rat_resources.metadata.runs import RunStatus
from rat_resources.platform import Platform
from rat_resources.settings import Settings
from tests.factories import ORDERS, Shop
from tests.hooks import when
from tests.rat_resources.backup.fresh import empty_database, reopened
from tests.servers.postgres import PGBOUNCER, PostgresServer

needs_pooler = pytest.mark.skipif(PGBOUNCER is None, reason="there is no pgbouncer")
TABLES = ("shop.bronze.orders", "shop.silver.orders", "shop.gold.revenue")


def rows(shop: Shop) -> dict[str, object]:
    """The rows of every table."""
    return {table: shop.rows(table) for table in TABLES}


def contents(whole: Platform) -> dict[str, list[str]]:
    """Every row of Postgres, as text."""
    with whole.metadata.engine.begin() as connection:
        connection.execute(text(tables.PLAINLY))
        return {
            table.quoted: sorted(
                b"".join(tables.copy_out(connection, table)).decode().splitlines()
            )
            for table in tables.list_all(connection)
        }


def test_a_rat_that_lost_all_but_its_files_goes_on(
    open_shop: Shop,
    tmp_path: Path,
    server: URL,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before, file = rows(open_shop), tmp_path / "rat.backup"
    open_shop.land("second.csv", "id,customer,amount\n3,cyd,30\n")
    # While a run has claimed the file and works on its branch.
    with when("write", lambda: backing_up.backup(file)):
        open_shop.run("shop.bronze.orders")
    published_since = open_shop.main
    open_shop.whole.metadata.dispose()

    with empty_database(server, monkeypatch):
        backing_up.restore(file, force=False, reset_main=False)

        said = capsys.readouterr().out
        with reopened(open_shop) as shop:
            assert rows(shop) == before
            assert shop.main != published_since
            assert [run.status for run in shop.runs()][-1] == RunStatus.FAILED
            assert (shop.branches, shop.holders) == ([], 0)
            assert ClaimState.CLAIMED not in shop.claims
            assert list(audit.audit(shop.whole).lines) == []
            assert shop.run().succeeded
            assert len(shop.rows("shop.bronze.orders")) == 3
            assert list(audit.audit(shop.whole).lines) == []
    assert "it was under way when the backup was taken" in said
    assert (file.stat().st_mode & 0o777) == 0o600


def test_every_row_is_what_it_was(
    open_shop: Shop, tmp_path: Path, server: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "rat.backup"
    manifest = back_up(open_shop.whole, file)
    before = contents(open_shop.whole)

    with empty_database(server, monkeypatch):
        restoring.restore(Settings.load(), file)

        with reopened(open_shop) as shop:
            assert contents(shop.whole) == before
    assert manifest.rows == sum(map(len, before.values()))


def test_what_stands_is_replaced_only_by_force(open_shop: Shop, tmp_path: Path) -> None:
    settings, file = open_shop.whole.settings, tmp_path / "rat.backup"
    back_up(open_shop.whole, file)
    before = contents(open_shop.whole)
    open_shop.publish({"shop/pipelines/gold/revenue/pipeline.sql": "SELECT 1 AS n"})

    with pytest.raises(BackupError, match=r"not empty: .*rat\.runs.*; with --force"):
        restoring.restore(settings, file)
    restoring.restore(settings, file, force=True)

    assert contents(open_shop.whole) == before


def test_a_restore_that_fails_has_changed_nothing(shop: Shop, tmp_path: Path) -> None:
    shop.publish()
    file = tmp_path / "rat.backup"
    manifest = back_up(shop.whole, file)
    with shop.whole.metadata.transaction() as tx:
        tx.execute(text("CREATE TABLE chm.notes AS SELECT 1 AS id"))
    back_up(shop.whole, tmp_path / "with_notes.backup")
    with shop.whole.metadata.transaction() as tx:
        tx.execute(text("DROP TABLE chm.notes"))
    before = contents(shop.whole)

    with pytest.raises(BackupError, match=r"tables that RAT does not make: chm\.notes"):
        restoring.restore(
            shop.whole.settings, tmp_path / "with_notes.backup", force=True
        )

    assert contents(shop.whole) == before
    assert manifest.rows


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("format", 2, "has format 2, this RAT reads 1; restore it with RAT"),
        ("revision", "9999_later", "newer than this checkout"),
        ("dagster_revision", "none", "Dagster's tables of revision none"),
        ("references", [], "keeps its branches in a Nessie server; set RAT_NESSIE_URL"),
    ],
)
def test_a_backup_of_another_kind_is_refused(
    shop: Shop, tmp_path: Path, key: str, value: object, said: str
) -> None:
    file, other = tmp_path / "rat.backup", tmp_path / "other.backup"
    back_up(shop.whole, file)
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(other, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == MANIFEST:
                content = json.dumps(json.loads(content) | {key: value}).encode()
            target.writestr(name, content)

    with pytest.raises(Exception, match=said):
        restoring.restore(shop.whole.settings, other)


def test_a_damaged_file_is_refused(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "rat.backup"
    back_up(shop.whole, file)
    whole = file.read_bytes()
    middle = len(whole) // 3

    for name, content in {
        "cut": whole[:-100],
        "changed": whole[:middle] + bytes(64) + whole[middle + 64 :],
        "another": b"something else",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BackupError, match="no whole backup"):
            restoring.restore(shop.whole.settings, tmp_path / name)


def test_no_publication_is_between_its_merge_and_its_facts(open_shop: Shop) -> None:
    metadata = open_shop.whole.metadata
    move = "UPDATE rat.publications SET state = 'merging'"

    with taking.no_merges(metadata), metadata.transaction() as tx:
        tx.execute(text("SET LOCAL lock_timeout = '1ms'"))
        with pytest.raises(OperationalError, match="lock timeout"):
            tx.execute(text(move))


def test_a_backup_gives_up_on_a_merge_that_nobody_finishes(
    open_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = open_shop.whole.metadata
    with metadata.transaction() as tx:
        tx.execute(text("SET LOCAL session_replication_role = replica"))
        tx.execute(text("UPDATE rat.publications SET state = 'merging'"))
    monkeypatch.setattr(taking, "PATIENCE", timedelta(0))

    with (
        pytest.raises(ConflictError, match="run `rat reconcile`"),
        taking.no_merges(metadata),
    ):
        pass


@needs_pooler
def test_a_role_without_other_rights_may_do_both_through_a_pooler(
    open_shop: Shop,
    tmp_path: Path,
    postgres_server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file, again = tmp_path / "rat.backup", tmp_path / "again.backup"
    back_up(open_shop.whole, file)
    before = contents(open_shop.whole)
    owner = postgres_server.make_role()
    name = postgres_server.make_database(owner)
    pooled = postgres_server.url(name, role=owner, pooled=True)
    monkeypatch.setenv("RAT_POSTGRES_URL", addresses.write(pooled))

    restoring.restore(Settings.load(), file)

    with reopened(open_shop) as shop:
        assert contents(shop.whole) == before
        back_up(shop.whole, again)
    with reading(file) as one, reading(again) as other:
        assert one.manifest.tables == other.manifest.tables


def test_a_folder_that_is_not_there_is_said(shop: Shop, tmp_path: Path) -> None:
    with pytest.raises(
        BackupError, match=r"rat\.backup cannot be written: No such file"
    ):
        back_up(shop.whole, tmp_path / "nowhere" / "rat.backup")


def test_files_that_were_processed_after_the_backup_are_told(
    shop: Shop, tmp_path: Path
) -> None:
    file = tmp_path / "rat.backup"
    config = "shop/pipelines/bronze/orders/config.yaml"
    shop.publish(ORDERS | {config: "archive_landing_zones: true\n"})
    shop.land("first.csv", "id,customer,amount\n1,ann,10\n")
    back_up(shop.whole, file)
    assert shop.run("shop.bronze.orders").succeeded
    (run,) = shop.runs()
    restoring.restore(shop.whole.settings, file, force=True)

    lines = restoring.settle(shop.whole, shop.instance)

    moved = f"shop/landing/orders/_processed/{run.id}/first.csv"
    assert [line for line in lines if "after the backup" in line] == [
        f"{moved} was processed after the backup; to have it read,"
        " move it to shop/landing/orders"
    ]
