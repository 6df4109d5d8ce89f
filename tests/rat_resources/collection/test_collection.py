"""The collector: what is needed stays, what is needed by nothing goes in the end, and nothing else."""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from pyiceberg.table import Table
from sqlalchemy import text

from rat_assets.commands import querying
from rat_resources.backup.taking import back_up
from rat_resources.errors import CollectionError, NotFoundError, SettingsError
from rat_resources.lake import catalog, marker
from rat_resources.lake.nessie_refs import NessieRefs
from rat_resources.lake.refs import MAIN
from rat_resources.lake.storage import LocalFiles, files_of
from rat_resources.metadata import audit
from rat_resources.retention import of_platform
from tests.rat_resources.collection.lakes import LONG, TABLE, WEEK, Lake


@pytest.mark.parametrize("settings", ["embedded", "nessie+s3_warehouse"], indirect=True)
def test_what_main_no_longer_holds_goes_when_its_history_is_over(lake: Lake) -> None:
    lake.write(1)
    before = lake.whole.lake.refs.head(MAIN)
    lake.write(2)
    lake.wait(WEEK)
    first = lake.collect_all()
    kept = lake.rows(at=f"@{before}")
    lake.wait(LONG)
    expected = lake.collect_all()

    again = lake.collect()

    assert (first.removed.files, kept) == (0, [1])
    assert expected.removed.files > 0
    assert expected.removed.bytes > 0
    assert not again.removed
    assert not again.problems
    assert lake.rows() == [2]


@pytest.mark.parametrize(
    "settings", ["embedded", "s3_warehouse", "nessie"], indirect=True
)
def test_files_of_a_dropped_branch_go_and_those_of_branches_and_tags_stay(
    lake: Lake,
) -> None:
    lake.write(1)
    lake.branch("run-dropped")
    lake.write(1, 2, branch="run-dropped")
    lake.write(7, table="shop.gold.new", branch="run-dropped")
    lake.branch("elsewhere")
    lake.write(3, branch="elsewhere")
    lake.tag("kept", at="elsewhere")
    lake.write(4, branch="elsewhere")
    lake.forget("run-dropped")
    lake.wait(LONG)

    collected = lake.collect_all()

    assert collected.removed.files >= 3
    # Nobody knows this table any more, and nothing says that its folder is one.
    assert lake.rows() == [1]
    assert lake.rows(at="kept") == [3]
    assert lake.rows(at="elsewhere") == [4]


@pytest.mark.parametrize("settings", ["nessie"], indirect=True)
def test_a_branch_that_somebody_else_made_on_the_server_counts(lake: Lake) -> None:
    lake.write(1)
    lake.branch("b")
    lake.write(2, branch="b")
    commit = lake.whole.lake.refs.head("b")
    nessie = lake.whole.settings.nessie
    assert nessie is not None
    others = NessieRefs(replace(nessie, branch=MAIN))
    theirs = others.create(f"spark-{uuid.uuid4()}", at=f"@{commit}")
    lake.forget("b")
    lake.wait(LONG)

    collected = lake.collect_all()

    others.delete(theirs.name, expected_hash=theirs.hash)
    assert not collected.removed
    assert lake.rows(at=f"@{commit}") == [2]


def test_what_is_collected_is_what_a_dry_run_says(lake: Lake) -> None:
    lake.write(1)
    lake.branch("b")
    lake.write(2, branch="b")
    lake.forget("b")
    lake.wait(LONG)
    seen = lake.collect(dry_run=True)
    lake.collect()
    lake.wait(WEEK)
    files = lake.files()

    foreseen = lake.collect(dry_run=True)
    untouched = lake.files()
    done = lake.collect()

    assert seen.total("noted").files == done.removed.files
    assert untouched == files
    assert foreseen.removed == done.removed
    assert len(files - lake.files()) == done.removed.files
    assert "would be removed" in "\n".join(foreseen.lines)


def test_a_file_that_was_just_written_and_one_that_was_just_given_up_stay(
    lake: Lake,
) -> None:
    lake.write(1)
    young = lake.make_file("shop/silver/orders/data/young.parquet")
    lake.wait(timedelta(days=1))

    first = lake.collect()
    lake.wait(timedelta(days=2))
    second = lake.collect()
    lake.wait(timedelta(days=1))
    third = lake.collect()
    still = young in lake.files()
    lake.wait(timedelta(days=2))
    lake.collect()

    assert first.total("young").files == 1
    assert second.total("noted").files == 1
    assert third.total("waiting").files == 1
    assert still
    assert young not in lake.files()


def test_what_a_run_writes_that_goes_on_for_long_stays(lake: Lake) -> None:
    lake.write(1)
    lake.make_file("shop/silver/orders/data/slow.parquet")
    lake.make_pipeline("orders")
    lake.tell(
        """
        INSERT INTO rat.runs (id, pipeline_id, status, started_at)
        SELECT gen_random_uuid(), id, 'running', now() - interval '1 hour'
        FROM rat.pipelines
        """
    )
    lake.wait(LONG)

    collected = lake.collect_all()

    assert collected.total("young").files == 1


def test_a_file_that_is_needed_again_waits_anew_when_it_is_not(lake: Lake) -> None:
    lake.write(1)
    lake.branch("b")
    lake.write(2, branch="b")
    commit = lake.whole.lake.refs.head("b")
    lake.forget("b")
    lake.wait(LONG)
    lake.collect()
    lake.wait(timedelta(days=1))
    lake.branch("again", at=f"@{commit}")
    lake.collect()
    lake.forget("again")
    lake.wait(timedelta(days=2))

    collected = lake.collect()

    assert not collected.removed
    assert lake.rows(at=f"@{commit}") == [2]


def test_a_branch_that_is_made_while_files_are_removed_loses_nothing(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.write(1)
    lake.branch("b")
    lake.write(2, branch="b")
    commit = lake.whole.lake.refs.head("b")
    lake.forget("b")
    lake.wait(LONG)
    lake.collect()
    lake.wait(WEEK)
    listed = LocalFiles.list

    def list_late(self: LocalFiles, folder: str) -> object:
        if folder.endswith("orders/metadata"):
            lake.branch("late", at=f"@{commit}")
        return listed(self, folder)

    monkeypatch.setattr(LocalFiles, "list", list_late)

    collected = lake.collect()

    assert not collected.removed
    assert lake.rows(at="late") == [2]


def test_two_collectors_beside_a_writer_remove_each_file_once_and_no_other(
    lake: Lake,
) -> None:
    lake.write(0)
    for number in range(30):
        lake.make_file(f"shop/silver/orders/data/dead-{number}.parquet")
    lake.wait(LONG)
    lake.collect()
    lake.wait(WEEK)

    def publish() -> None:
        for number in range(1, 6):
            branch = lake.branch(f"run-{number}")
            lake.write(number, branch=branch, anew=False)
            lake.whole.lake.refs.merge(branch, into=MAIN)
            lake.forget(branch)

    with ThreadPoolExecutor(3) as pool:
        writer = pool.submit(publish)
        collectors = [pool.submit(lake.collect) for _ in range(2)]
        writer.result()
        rounds = [each.result() for each in collectors]

    assert sum(each.removed.files for each in rounds) == 30
    assert not [each.problems for each in rounds if each.problems]
    assert lake.rows() == [0, 1, 2, 3, 4, 5]


def test_pins_of_runs_intents_and_publications_stay(lake: Lake) -> None:
    pins = {}
    for number, state in enumerate(("pending", "success"), 1):
        lake.write(number, branch=lake.branch(f"b{number}"))
        pins[state] = lake.whole.lake.catalog(f"b{number}").load_table(TABLE)
        lake.forget(f"b{number}")
    lake.write(9)
    lake.wait(LONG)
    pin(lake, "pending", pins["pending"])
    pin(lake, "success", pins["success"])

    lake.collect_all()

    assert [read(pins[state]) for state in ("pending", "success")] == [[1], [2]]


def test_what_a_backup_needs_stays_for_as_long_as_backups_are_kept(
    lake: Lake, tmp_path: Path
) -> None:
    lake.write(1)
    saved = lake.whole.lake.catalog(MAIN).load_table(TABLE)
    back_up(lake.whole, tmp_path / "rat.backup")
    lake.drop()
    lake.wait(LONG)
    lake.collect_all()
    kept = read(saved)
    lake.wait(LONG + LONG)

    collected = lake.collect_all()

    assert kept == [1]
    assert collected.removed.files >= 4
    assert lake.files() == set()


def test_who_asks_for_what_is_gone_is_told_so(lake: Lake) -> None:
    lake.write(1)
    lake.collect()
    before = lake.whole.lake.refs.head(MAIN)
    lake.drop()
    lake.wait(LONG)
    lake.collect_all()
    catalog.read_metadata.cache_clear()  # another process has read nothing yet

    with pytest.raises(NotFoundError, match="was removed since"):
        querying.query(f"FROM {TABLE}", ref=f"@{before}", form="json", limit=0)


def test_a_table_that_was_dropped_goes_with_everything_when_its_history_is_over(
    lake: Lake,
) -> None:
    lake.write(1)
    lake.collect()
    lake.make_file("shop/silver/orders/metadata/1-x.stats")
    strange = lake.make_file("shop/silver/orders/data/notes.txt")
    lake.drop()
    lake.wait(LONG)

    lake.collect_all()

    assert lake.files() == {strange}


def test_nothing_but_files_of_tables_is_ever_looked_at(lake: Lake) -> None:
    lake.write(1)
    others = [
        lake.make_file(name)
        for name in (
            "rat.backup",
            "store/_objects/x.parquet",
            "shop/landing/orders/data.parquet",
            "shop/silver/orders/orders.parquet",
            "shop/silver/orders/metadata/version-hint.text",
            "shop/silver/orders/data/.x.parquet.crc",
            "other/table/data/x.parquet",
        )
    ]
    lake.wait(LONG)

    lake.collect_all()

    assert all(files_of(each).read(each) is not None for each in others)
    assert files_of(lake.warehouse).read(f"{lake.warehouse}/{marker.NAME}") is not None


def test_what_cannot_be_read_stops_everything_and_is_named(lake: Lake) -> None:
    lake.write(1)
    lake.branch("b")
    lake.write(2, table="shop.silver.others", branch="b")
    dead = lake.make_file("shop/silver/orders/data/dead.parquet")
    lake.wait(LONG)
    lake.collect()
    lake.wait(WEEK)
    snapshot = (
        lake.whole.lake.catalog("b").load_table("shop.silver.others").current_snapshot()
    )
    assert snapshot is not None

    with (
        lake.unreadable(snapshot.manifest_list),
        pytest.raises(
            CollectionError, match=r"branch b needs for shop\.silver\.others"
        ),
    ):
        lake.collect()

    assert dead in lake.files()
    lake.collect()
    assert dead not in lake.files()


def test_a_table_of_which_a_file_is_missing_is_left_alone_and_others_are_not(
    lake: Lake,
) -> None:
    lake.write(1)
    lake.write(2, table="shop.silver.others")
    dead = [
        lake.make_file(f"shop/silver/{name}/data/dead.parquet")
        for name in ("orders", "others")
    ]
    snapshot = lake.whole.lake.catalog(MAIN).load_table(TABLE).current_snapshot()
    assert snapshot is not None
    lake.remove_file(snapshot.manifest_list)
    lake.wait(LONG)

    collected = lake.collect_all()

    assert [each in lake.files() for each in dead[:1]] == [True]
    assert dead[1] not in lake.files(table="shop.silver.others")
    assert any("is not there, and" in each for each in collected.problems)


def test_one_file_that_cannot_be_removed_stops_no_other(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.write(1)
    for name in ("a", "b"):
        lake.make_file(f"shop/silver/orders/data/{name}.parquet")
    lake.wait(LONG)
    lake.collect()
    lake.wait(WEEK)
    unlink = Path.unlink

    def fail(self: Path, *, missing_ok: bool = False) -> None:
        if self.name == "a.parquet":
            raise PermissionError(1, "not allowed")
        unlink(self, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fail)
        first = lake.collect()
    second = lake.collect()

    assert (first.removed.files, first.total("stuck").files) == (1, 1)
    assert "a.parquet could not be removed: not allowed" in first.problems[0]
    assert second.removed.files == 1


def test_a_collector_that_dies_leaves_what_the_next_one_ends(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.write(1)
    for name in ("a", "b"):
        lake.make_file(f"shop/silver/orders/data/{name}.parquet")
    lake.wait(LONG)
    lake.collect()
    lake.wait(WEEK)
    remove = LocalFiles.remove

    def die(self: LocalFiles, locations: list[str]) -> None:
        remove(self, locations[:1])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LocalFiles, "remove", die)
        with pytest.raises(KeyboardInterrupt):
            lake.collect()
    lake.wait(timedelta(hours=1))
    second = lake.collect()

    assert second.removed.files == 1
    assert notes(lake) == 0
    assert lake.rows() == [1]


def test_who_removed_how_much_is_written_down(lake: Lake) -> None:
    lake.write(1)
    lake.make_file("shop/silver/orders/data/a.parquet", b"1234")
    lake.wait(LONG)

    lake.collect_all()

    with lake.whole.metadata.transaction() as tx:
        (row,) = tx.query(audit.AuditLog).filter_by(action="lake.collect").all()
    assert row.detail == f"{TABLE}: 1 file (4 bytes)"


# Whose a warehouse is.


@pytest.mark.parametrize("settings", ["embedded", "s3_warehouse"], indirect=True)
def test_a_warehouse_is_marked_when_it_is_first_opened(lake: Lake) -> None:
    content = files_of(lake.warehouse).read(f"{lake.warehouse}/{marker.NAME}")

    assert content is not None
    assert uuid.UUID(json.loads(content)["rat"])


@pytest.mark.parametrize("settings", ["embedded", "s3_warehouse"], indirect=True)
def test_a_warehouse_that_another_rat_has_marked_is_refused_until_it_is_adopted(
    lake: Lake,
) -> None:
    other = marker.Owner("0" * 8, "1/2").content()
    files_of(lake.warehouse).write(f"{lake.warehouse}/{marker.NAME}", other, anew=False)
    lake.write(1)
    lake.make_file("shop/silver/orders/data/theirs.parquet")
    lake.wait(LONG)

    with pytest.raises(CollectionError, match="belongs to another RAT"):
        lake.collect()
    lake.collect(adopt=True)
    lake.wait(WEEK)
    collected = lake.collect()

    assert collected.removed.files == 1


def test_a_copy_of_the_database_is_another_rat(lake: Lake) -> None:
    with lake.whole.metadata.transaction() as tx:
        ours = marker.register(tx, lake.warehouse)
    other = marker.Owner(ours.rat, "1/2").content()
    files_of(lake.warehouse).write(f"{lake.warehouse}/{marker.NAME}", other, anew=False)

    with pytest.raises(CollectionError, match="copy of this RAT's database"):
        lake.collect()


def test_a_warehouse_without_a_marker_is_taken_if_it_holds_only_known_tables(
    lake: Lake,
) -> None:
    lake.write(1)
    lake.remove_file(f"{lake.warehouse}/{marker.NAME}")

    lake.collect()

    assert files_of(lake.warehouse).read(f"{lake.warehouse}/{marker.NAME}") is not None


@pytest.mark.parametrize("folder", ["other/gold/sales", "shop/silver/orders"])
def test_a_warehouse_without_a_marker_that_holds_a_table_of_others_is_refused(
    lake: Lake, folder: str
) -> None:
    lake.write(1)
    lake.remove_file(f"{lake.warehouse}/{marker.NAME}")
    said = {"format-version": 2, "location": folder, "table-uuid": str(uuid.uuid4())}
    name = f"{folder}/metadata/00000-{uuid.uuid4()}.metadata.json"
    lake.make_file(name, json.dumps(said).encode())

    with pytest.raises(CollectionError, match="does not know"):
        lake.collect()

    lake.collect(adopt=True)


def test_what_was_not_kept_once_is_not_promised_again(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.write(1)
    lake.collect()
    lake.drop()
    lake.wait(LONG)
    lake.collect_all()
    monkeypatch.setattr(
        type(lake.whole.settings), "retention", "history=1y", raising=False
    )

    collected = lake.collect()

    assert not collected.problems
    assert lake.files() == set()


@pytest.mark.parametrize("written", ["unused=1h", "history=12h"])
def test_what_is_too_short_for_a_run_is_refused(written: str) -> None:
    with pytest.raises(SettingsError, match="is too short"):
        of_platform(written)


def pin(lake: Lake, status: str, table: Table) -> None:
    """Let a run of long ago have read a table as it was."""
    snapshot = table.current_snapshot()
    assert snapshot is not None
    lake.make_pipeline(status)
    lake.tell(
        """
        WITH run AS (
            INSERT INTO rat.runs (id, pipeline_id, status, finished_at, created_at)
            SELECT gen_random_uuid(), id, CAST(:status AS text),
                CASE :status WHEN 'success' THEN now() END, now() - interval '1 year'
            FROM rat.pipelines WHERE name = :status RETURNING id
        )
        INSERT INTO rat.run_inputs (run_id, namespace, layer, name, metadata_location, snapshot_id)
        SELECT id, 'shop', 'silver', 'orders', :location, :snapshot FROM run
        """,
        status=status,
        location=table.metadata_location,
        snapshot=snapshot.snapshot_id,
    )


def read(table: Table) -> list[int]:
    """The rows of a table as it was, whose files are read anew."""
    return sorted(table.scan().to_arrow()["id"].to_pylist())


def notes(lake: Lake) -> int:
    """How many files are noted."""
    with lake.whole.metadata.transaction() as tx:
        return int(tx.scalar(text("SELECT count(*) FROM rat.unused_files")) or 0)
