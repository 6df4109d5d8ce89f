"""The janitor: what goes, what stays although it is old, and that nothing else is lost by it."""

import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import dagster as dg
import pytest
from sqlalchemy import text

from rat_assets.commands import cleaning
from rat_resources import audit, janitor
from rat_resources.errors import SettingsError
from rat_resources.janitor import dagster_runs
from rat_resources.janitor.chores import Batch, Chore, Scene
from rat_resources.lake.asides import name_aside
from rat_resources.metadata import Metadata
from rat_resources.metadata.landing import ClaimState
from rat_resources.mirror.rebuilding import rebuild
from tests.factories import ORDERS, Shop, folder_of
from tests.hooks import settle as settle_file
from tests.rat_resources.janitor.ages import clean_later, make_runs, settle
from tests.rat_resources.mirror.dagster_jobs import contents
from tests.rat_resources.test_reconciliation import run_and_kill

SPARE = "shop/pipelines/bronze/orders"


def count(metadata: Metadata, table: str) -> int:
    """The rows of a table."""
    with metadata.transaction() as tx:
        return int(tx.scalar(text(f"SELECT count(*) FROM {table}")))


def differences(shop: Shop) -> list[str]:
    """What an audit says."""
    return list(audit.audit(shop.whole).lines)


def run_again(shop: Shop, name: str) -> str:
    """Bring one more order to gold; the Dagster run."""
    shop.land(name, f"id,customer,amount\n{len(shop.runs())},ann,10\n")
    report = shop.run()
    assert report.succeeded
    return report.dagster_run_id


def test_old_runs_go_whole_and_what_they_told_stays(open_shop: Shop) -> None:
    metadata, instance = open_shop.whole.metadata, open_shop.instance
    first = open_shop.runs()[0].dagster_run_id
    newest = run_again(open_shop, "second.csv")
    settle(metadata)
    told, rows = contents(metadata), open_shop.rows("shop.gold.revenue")
    key = dg.AssetKey(["shop", "bronze", "orders"])
    check = dg.AssetCheckKey(key, "amount_is_positive")

    would = clean_later(open_shop, dry_run=True)
    cleaned = clean_later(open_shop)

    assert would.removed == cleaned.removed
    assert cleaned.removed["dagster_runs"] == 1
    assert [run.run_id for run in instance.get_runs()] == [newest]
    assert not instance.all_logs(str(first))
    shown = instance.get_latest_materialization_event(key)
    assert shown is not None
    assert shown.run_id == newest
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key([check])
    assert latest[check].run_id == newest
    assert differences(open_shop) == []
    rebuild(metadata)
    assert contents(metadata) == told
    assert differences(open_shop) == []
    assert open_shop.rows("shop.gold.revenue") == rows
    run_again(open_shop, "third.csv")
    assert clean_later(open_shop, after=timedelta(0)).removed == {}


def test_a_retry_whose_root_is_gone_is_still_one(open_shop: Shop) -> None:
    metadata = open_shop.whole.metadata
    retry = open_shop.runs()[0].dagster_run_id
    tag = "INSERT INTO dagster.run_tags (run_id, key, value) VALUES (:run, :key, 'a root')"
    with metadata.transaction() as tx:
        tx.execute(text(tag), {"run": retry, "key": "dagster/root_run_id"})
    rebuild(metadata)
    told = contents(metadata)
    run_again(open_shop, "second.csv")
    settle(metadata)
    clean_later(open_shop)

    rebuild(metadata)

    after = contents(metadata)
    assert all(row in after[table] for table in told for row in told[table])
    assert differences(open_shop) == []


def test_a_run_that_the_mirror_has_not_told_stays(
    metadata: Metadata, shop: Shop
) -> None:
    make_runs(metadata, 2, events=1)
    with metadata.transaction() as tx:
        tx.execute(text("UPDATE rat.mirror_positions SET position = 1"))

    clean_later(shop, only=dagster_runs.CHORES)

    assert count(metadata, "dagster.runs") == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE dagster.runs SET status = 'STARTED'",
        "INSERT INTO dagster.asset_keys (asset_key, last_run_id) VALUES ('[\"a\"]', 'plain-1')",
        "UPDATE dagster.event_logs SET asset_key = '[\"a\"]',"
        " dagster_event_type = 'ASSET_MATERIALIZATION' WHERE id = 1",
        "UPDATE dagster.runs SET backfill_id = 'b'; INSERT INTO dagster.bulk_actions"
        " (key, status, timestamp, body) VALUES ('b', 'REQUESTED', now(), '')",
    ],
    ids=["it goes on", "asked for last", "the newest", "of a backfill"],
)
def test_a_run_that_somebody_needs_stays(shop: Shop, statement: str) -> None:
    metadata = shop.whole.metadata
    make_runs(metadata, 1, events=2)
    with metadata.transaction() as tx:
        for each in statement.split(";"):
            tx.execute(text(each))

    clean_later(shop, only=dagster_runs.CHORES)

    assert count(metadata, "dagster.runs") == 1
    assert count(metadata, "dagster.event_logs") == 2


def test_what_stops_in_the_middle_goes_on_where_it_was(shop: Shop) -> None:
    metadata = shop.whole.metadata
    make_runs(metadata, 30, events=1_000)
    [chore] = dagster_runs.CHORES
    would = clean_later(shop, dry_run=True, only=[chore]).counts

    interrupted = clean_later(shop, only=[chore], budget=timedelta(0))
    rest = clean_later(shop, only=[chore])

    assert interrupted.counts == {"dagster_runs": 5, "dagster_events": 5_000}
    assert not interrupted.is_done
    assert interrupted.counts + rest.counts == would
    assert count(metadata, "dagster.event_logs") == 0
    assert count(metadata, "lakeflow.fact_job_run_timeline") == 30


def test_who_writes_to_the_log_waits_for_nobody(shop: Shop) -> None:
    metadata = shop.whole.metadata
    make_runs(metadata, 2, events=1)

    with metadata.transaction() as tx:
        held = "SELECT FROM dagster.runs WHERE run_id = 'plain-1' FOR UPDATE"
        tx.execute(text(held))
        clean_later(shop, only=dagster_runs.CHORES)

    assert count(metadata, "dagster.runs") == 1


def test_logs_go_from_the_store_and_from_postgres(open_shop: Shop) -> None:
    store = open_shop.whole.store
    # A crash has left a row whose log is gone.
    store.delete(str(open_shop.runs()[0].logs_s3_path))

    cleaned = clean_later(open_shop)

    assert (cleaned.removed["run_logs"], cleaned.removed["compute_logs"]) == (3, 1)
    assert store.list("_logs") == []
    assert {(run.logs, run.logs_s3_path) for run in open_shop.runs()} == {(None, None)}


def test_a_pipeline_and_a_namespace_say_otherwise(shop: Shop) -> None:
    config = f"{SPARE}/config.yaml"
    shop.publish(
        ORDERS
        | {
            config: f"{ORDERS[config]}\nretention: {{logs: forever}}\n",
            "shop/retention.yaml": "logs: 1d\nruns: 2y\n",
        }
    )
    shop.land("first.csv", "id,customer,amount\n1,ann,10\n")
    assert shop.run().succeeded
    settle(shop.whole.metadata)

    cleaned = clean_later(shop, after=timedelta(days=2))

    # Dagster's own log is of all three, and one of them is kept for ever.
    assert cleaned.removed == {"run_logs": 2}


def test_a_namespace_that_cannot_be_read_keeps_everything(open_shop: Shop) -> None:
    open_shop.whole.store.write("shop/retention.yaml", b"log: 1d\n")

    cleaned = clean_later(open_shop)

    assert "shop/retention.yaml" in cleaned.problems[0]
    assert "run_logs" not in cleaned.removed


def test_what_crashes_leave_in_folders_goes(shop: Shop) -> None:
    store, home = folder_of(shop.whole.store.root), shop.whole.settings.home
    (store / "shop" / "landing" / "orders").mkdir(parents=True)
    drafts = [
        store / "shop" / "landing" / "orders" / f".upload-{'a' * 32}",
        store / f".orders.csv.{'b' * 32}.tmp",
    ]
    mine = store / ".mine.tmp"
    for path in (*drafts, mine):
        path.touch()
        os.utime(path, (0, 0))
    (store / f".new.{'c' * 32}.tmp").touch()
    left = home / "staging" / "6f0d5e5a-9c0e-5d2b-8a58-3f6d1f0b7a11"
    left.mkdir(parents=True)

    would = janitor.clean(shop.whole, shop.instance, dry_run=True)
    cleaned = janitor.clean(shop.whole, shop.instance)

    assert would.removed == cleaned.removed == {"staging_folders": 1, "drafts": 2}
    assert mine.exists()
    assert not left.exists()


def test_what_a_killed_run_left_goes(shop: Shop) -> None:
    shop.publish()
    settle_file(shop.land("first.csv", "id,customer,amount\n1,ann,10\n"))
    run_and_kill(shop, "write", state="begun")
    left = {
        "dead_runs": 1,
        "claimed_files": 1,
        "branches": 1,
        "staging_folders": 1,
    }

    would = janitor.clean(shop.whole, shop.instance, dry_run=True)
    assert (len(shop.branches), shop.claims) == (1, [ClaimState.CLAIMED])
    cleaned = janitor.clean(shop.whole, shop.instance)

    assert would.removed == cleaned.removed == left
    assert (shop.branches, shop.claims) == ([], [])
    assert janitor.clean(shop.whole, shop.instance).removed == {}


def test_what_a_killed_append_left_goes_when_it_surely_is_over(shop: Shop) -> None:
    refs = shop.whole.lake.refs
    aside = refs.create(name_aside("append", id=uuid.uuid4()))

    early = janitor.clean(shop.whole, shop.instance)
    stood = [each.name for each in refs.references(prefix="append-")]
    late = clean_later(shop)

    assert (early.removed, late.removed) == ({}, {"branches": 1})
    assert (stood, list(refs.references(prefix="append-"))) == ([aside.name], [])


def test_processed_files_go_where_the_zone_says_so(shop: Shop) -> None:
    shop.publish(
        ORDERS
        | {
            f"{SPARE}/config.yaml": "archive_landing_zones: true\n",
            "shop/landing/orders.yaml": "auto_purge: true\n",
        }
    )
    shop.land("first.csv", "id,customer,amount\n1,ann,10\n")
    assert shop.run("shop.bronze.orders").succeeded
    folder = (
        folder_of(shop.whole.store.root) / "shop" / "landing" / "orders" / "_processed"
    )
    assert list(folder.rglob("*.csv"))

    cleaned = clean_later(shop)

    assert cleaned.removed["processed_files"] == 1
    assert not list(folder.rglob("*.csv"))
    assert differences(shop) == []
    assert shop.run("shop.bronze.orders").succeeded
    assert len(shop.rows("shop.bronze.orders")) == 1


def test_the_newest_tick_of_each_sensor_stays(shop: Shop) -> None:
    metadata = shop.whole.metadata
    tick = """
        INSERT INTO dagster.job_ticks
            (job_origin_id, selector_id, status, type, "timestamp", tick_body)
        SELECT 'o' || nth % 2, 's' || nth % 2, 'SKIPPED', 'SENSOR',
            now() - make_interval(secs => nth), ''
        FROM generate_series(1, 10) AS nth
    """
    with metadata.transaction() as tx:
        tx.execute(text(tick))

    cleaned = clean_later(shop)

    assert cleaned.removed == {"ticks": 8}
    with metadata.transaction() as tx:
        actions = tx.scalars(text("SELECT detail FROM rat.audit_log")).all()
    assert actions == ["ticks: 8"]


def test_a_chore_that_fails_stops_no_other(shop: Shop) -> None:
    def fail(_: Scene) -> Iterator[Batch]:
        message = "the disk is on fire"
        raise OSError(message)

    make_runs(shop.whole.metadata, 1, events=1)
    broken = Chore("fire", (), fail)

    cleaned = clean_later(shop, only=[broken, *dagster_runs.CHORES])

    assert cleaned.problems == ["fire: the disk is on fire"]
    assert cleaned.removed["dagster_runs"] == 1


def test_the_command_counts_what_would_go(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    draft = folder_of(shop.whole.store.root) / f".x.{'a' * 32}.tmp"
    draft.touch()
    os.utime(draft, (0, 0))

    code = cleaning.clean(dry_run=True, as_json=True)

    said = json.loads(capsys.readouterr().out)
    assert (code, said["removed"], draft.exists()) == (0, {"drafts": 1}, True)
    assert cleaning.clean(dry_run=False, as_json=False) == 0
    assert capsys.readouterr().out == "drafts: 1 removed\n"


def test_a_word_that_means_nothing_is_refused(shop: Shop) -> None:
    settings = replace(shop.whole.settings, retention="log=30d")
    whole = replace(shop.whole, settings=settings)

    with pytest.raises(
        SettingsError, match="log is nothing that is kept; did you mean logs"
    ):
        janitor.clean(whole, shop.instance)
