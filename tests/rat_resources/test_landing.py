import os
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from sqlalchemy.orm import Session

from rat_resources import archive, landing, landing_folder
from rat_resources.errors import LandingError
from rat_resources.expectations import check_expected
from rat_resources.landing import ClaimedFile, Looked, Zone
from rat_resources.metadata import Metadata
from tests.rat_resources.rows import make_pipeline, make_run, make_zone, put


def look(tx: Session, zone: Zone, root: Path, *, most_files: int = 100) -> Looked:
    later = datetime.now(UTC) + timedelta(minutes=1)
    return landing.look(tx, zone, root=root, now=later, most_files=most_files)


def claim(
    tx: Session,
    pipeline_id: uuid.UUID,
    *,
    new: bool = True,
    version: uuid.UUID | None = None,
    by_hand: bool = False,
) -> tuple[uuid.UUID, list[ClaimedFile]]:
    run_id = make_run(tx, pipeline_id)
    files = landing.claim(
        tx,
        namespace="shop",
        zones={"orders": new},
        pipeline_id=pipeline_id,
        version_id=version,
        run_id=run_id,
        by_hand=by_hand,
    )
    return run_id, files


def names(files: list[ClaimedFile]) -> list[str]:
    return sorted(file.name for file in files)


def test_a_file_is_new_once_whatever_its_name(
    metadata: Metadata, tmp_path: Path
) -> None:
    odd = ["a b.csv", 'it\'s "x".csv', "ü\n.csv", "deep/er/c.csv", "[1]*.csv"]

    with metadata.transaction() as tx:
        make_pipeline(tx)
        zone = make_zone(tx)
        for name in odd:
            put(tmp_path, zone, name)
        first, second = look(tx, zone, tmp_path), look(tx, zone, tmp_path)

    assert sorted(file.name for file in first.new) == sorted(odd)
    assert second.is_empty


@pytest.mark.parametrize(
    "name",
    [
        "_samples/a.csv",
        "_processed/r/a.csv",
        "_rejected/a.csv",
        ".hidden.csv",
        ".git/a.csv",
        "a.csv.tmp",
        "a.csv.part",
        "~$a.csv",
    ],
)
def test_what_lies_aside_or_is_unfinished_is_no_landing_file(
    metadata: Metadata, tmp_path: Path, name: str
) -> None:
    with metadata.transaction() as tx:
        make_pipeline(tx)
        zone = make_zone(tx)
        put(tmp_path, zone, name)
        looked = look(tx, zone, tmp_path)

    assert looked.is_empty


def test_a_link_out_of_the_zone_is_refused_and_a_pipe_is_skipped(
    metadata: Metadata, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("x")

    with metadata.transaction() as tx:
        make_pipeline(tx)
        zone = make_zone(tx)
        real = put(tmp_path, zone, "a.csv")
        (real.parent / "out.csv").symlink_to(secret)
        (real.parent / "in.csv").symlink_to(real)
        os.mkfifo(real.parent / "pipe.csv")
        looked = look(tx, zone, tmp_path)

    assert sorted(file.name for file in looked.new) == ["a.csv", "in.csv"]
    assert [one.name for one in looked.refused] == ["out.csv"]


def test_a_touched_file_is_no_new_version_and_new_content_is(
    metadata: Metadata, tmp_path: Path
) -> None:
    with metadata.transaction() as tx:
        make_pipeline(tx)
        zone = make_zone(tx)
        path = put(tmp_path, zone, "a.csv", "1")
        look(tx, zone, tmp_path)
        os.utime(path, (1, 1))
        touched = look(tx, zone, tmp_path)
        path.write_text("2")
        changed = look(tx, zone, tmp_path)
        path.unlink()
        gone = look(tx, zone, tmp_path)

    assert touched.is_empty
    assert [file.name for file in changed.new] == ["a.csv"]
    assert gone.gone == ("a.csv",)


def test_a_file_that_grows_during_the_wait_waits_for_the_next_look(
    metadata: Metadata, tmp_path: Path
) -> None:
    with metadata.transaction() as tx:
        make_pipeline(tx)
        zone = make_zone(tx)
        put(tmp_path, zone, "done.csv")
        path = put(tmp_path, zone, "growing.csv")
        waits: list[float] = []

        def grow(seconds: float) -> None:
            waits.append(seconds)
            path.write_text("more and more")

        looked = landing.look(tx, zone, root=tmp_path, now=datetime.now(UTC), wait=grow)

    assert [file.name for file in looked.new] == ["done.csv"]
    assert looked.waiting == ("growing.csv",)
    assert len(waits) == 1


def test_a_bounded_look_comes_to_every_file_in_the_end(
    metadata: Metadata, tmp_path: Path
) -> None:
    with metadata.transaction() as tx:
        make_pipeline(tx)
        zone = make_zone(tx)
        for number in range(5):
            put(tmp_path, zone, f"{number}.csv")
        looks = [look(tx, zone, tmp_path, most_files=2) for _ in range(3)]

    assert [len(each.new) for each in looks] == [2, 2, 1]
    assert [each.more for each in looks] == [True, True, False]


def test_an_uploaded_file_is_settled_and_known_at_once(
    metadata: Metadata, tmp_path: Path
) -> None:
    source = tmp_path / "orders.csv"
    source.write_text("1")

    with metadata.transaction() as tx:
        pipeline_id = make_pipeline(tx)
        zone = make_zone(tx)
        uploaded = landing_folder.upload(source, folder=tmp_path / zone.path)
        landing.record_upload(tx, zone, uploaded=uploaded)
        _, files = claim(tx, pipeline_id)
        looked = look(tx, zone, tmp_path)

    assert names(files) == ["orders.csv"]
    assert looked.is_empty


def test_a_name_that_no_look_would_take_cannot_be_uploaded(tmp_path: Path) -> None:
    source = tmp_path / ".orders.csv"
    source.write_text("1")

    with pytest.raises(LandingError, match="never takes"):
        landing_folder.upload(source, folder=tmp_path / "zone")


def test_committed_files_are_read_again_only_by_who_reads_the_whole_zone(
    metadata: Metadata, tmp_path: Path
) -> None:
    with metadata.transaction() as tx:
        pipeline_id, other = make_pipeline(tx), make_pipeline(tx, "other")
        zone = make_zone(tx)
        put(tmp_path, zone, "a.csv")
        look(tx, zone, tmp_path)
        run_id, first = claim(tx, pipeline_id)
        landing.commit(tx, run_id)
        put(tmp_path, zone, "b.csv")
        look(tx, zone, tmp_path)
        _, new = claim(tx, pipeline_id)
        _, whole = claim(tx, pipeline_id, new=False)
        _, others = claim(tx, other)

    assert names(first) == ["a.csv"]
    assert names(new) == ["b.csv"]
    assert names(whole) == ["a.csv", "b.csv"]
    assert names(others) == ["a.csv", "b.csv"]


def test_two_runs_of_a_pipeline_never_claim_the_same_file(
    metadata: Metadata, tmp_path: Path
) -> None:
    with metadata.transaction() as tx:
        pipeline_id = make_pipeline(tx)
        zone = make_zone(tx)
        put(tmp_path, zone, "a.csv")
        look(tx, zone, tmp_path)
        _, first = claim(tx, pipeline_id)
        _, second = claim(tx, pipeline_id)

    assert (names(first), names(second)) == (["a.csv"], [])


def test_a_file_that_failed_a_run_waits_for_a_person_or_another_version(
    metadata: Metadata, tmp_path: Path
) -> None:
    with metadata.transaction() as tx:
        pipeline_id = make_pipeline(tx)
        zone = make_zone(tx)
        put(tmp_path, zone, "bad.csv")
        look(tx, zone, tmp_path)
        version = uuid.uuid4()
        run_id, _ = claim(tx, pipeline_id, version=version)
        landing.release(tx, run_id, failed="no such column")
        put(tmp_path, zone, "good.csv")
        look(tx, zone, tmp_path)
        waits = landing.waiting(tx)
        again_id, again = claim(tx, pipeline_id, version=version)
        landing.release(tx, again_id)
        hand_id, by_hand = claim(tx, pipeline_id, version=version, by_hand=True)
        landing.release(tx, hand_id, failed="still")
        _, republished = claim(tx, pipeline_id, version=uuid.uuid4())

    assert [(one.name, one.reason) for one in waits] == [("bad.csv", "no such column")]
    assert names(again) == ["good.csv"]
    assert names(by_hand) == names(republished) == ["bad.csv", "good.csv"]


def test_a_file_on_which_three_runs_died_waits(
    metadata: Metadata, tmp_path: Path
) -> None:
    with metadata.transaction() as tx:
        pipeline_id = make_pipeline(tx)
        zone = make_zone(tx)
        put(tmp_path, zone, "deadly.csv")
        look(tx, zone, tmp_path)
        attempts = []
        for _ in range(4):
            run_id, files = claim(tx, pipeline_id)
            attempts.append(len(files))
            landing.release(tx, run_id, died=True)
        waits = landing.waiting(tx)

    assert attempts == [1, 1, 1, 0]
    assert [one.reason for one in waits] == ["its run died 3 times"]


def test_staging_drops_what_changed_and_makes_empty_folders(
    metadata: Metadata, tmp_path: Path
) -> None:
    with metadata.transaction() as tx:
        pipeline_id = make_pipeline(tx)
        zone = make_zone(tx)
        kept = put(tmp_path, zone, "deep/kept.csv", "1")
        put(tmp_path, zone, "changed.csv", "1")
        put(tmp_path, zone, "gone.csv", "1")
        look(tx, zone, tmp_path)
        run_id, files = claim(tx, pipeline_id)
        put(tmp_path, zone, "changed.csv", "2")
        (tmp_path / zone.path / "gone.csv").unlink()
        staged = landing.stage(
            tx,
            run_id=run_id,
            files=files,
            root=tmp_path,
            folder=tmp_path / "staging",
            zones=["orders", "empty"],
        )
        committed = landing.commit(tx, run_id)

    copy = staged.folders["orders"] / "deep" / "kept.csv"
    assert copy.read_text() == "1"
    assert copy.stat().st_ino != kept.stat().st_ino
    assert {one.file.name: one.why for one in staged.dropped} == {
        "changed.csv": "its content changed",
        "gone.csv": "it was taken away",
    }
    assert list(staged.folders["empty"].iterdir()) == []
    assert not (staged.folders["orders"] / "changed.csv").exists()
    assert committed == 1


def test_files_are_archived_when_every_reader_has_committed_them(
    metadata: Metadata, tmp_path: Path
) -> None:
    with metadata.transaction() as tx:
        one, two = make_pipeline(tx), make_pipeline(tx, "two")
        zone = make_zone(tx)
        path = put(tmp_path, zone, "a.csv")
        look(tx, zone, tmp_path)
        landing.commit(tx, claim(tx, one)[0])
        too_early = archive.plan_archive(tx, zone, readers=[one, two])
        run_id, _ = claim(tx, two)
        landing.commit(tx, run_id)
        planned = archive.plan_archive(tx, zone, readers=[one, two])
    with metadata.transaction() as tx:
        moved = archive.finish_moves(tx, zone, root=tmp_path)
        looked = look(tx, zone, tmp_path)

    assert (too_early, planned, moved) == (0, 1, 1)
    assert (path.parent / "_processed" / str(run_id) / "a.csv").is_file()
    assert looked.is_empty


def test_a_move_that_was_cut_off_is_finished_and_never_looks_like_a_loss(
    metadata: Metadata, tmp_path: Path
) -> None:
    with metadata.transaction() as tx:
        make_pipeline(tx)
        zone = make_zone(tx)
        path = put(tmp_path, zone, "a.csv")
        look(tx, zone, tmp_path)
        target = tmp_path / archive.reject(tx, zone, root=tmp_path, name="a.csv")
        target.parent.mkdir()
        path.rename(target)
        looked = look(tx, zone, tmp_path)
        moved = archive.finish_moves(tx, zone, root=tmp_path)

    assert looked.gone == ()
    assert moved == 1


def test_a_file_that_was_overwritten_before_its_move_stays(
    metadata: Metadata, tmp_path: Path
) -> None:
    with metadata.transaction() as tx:
        make_pipeline(tx)
        zone = make_zone(tx)
        put(tmp_path, zone, "a.csv", "1")
        look(tx, zone, tmp_path)
        archive.reject(tx, zone, root=tmp_path, name="a.csv")
        path = put(tmp_path, zone, "a.csv", "2")
        moved = archive.finish_moves(tx, zone, root=tmp_path)
        looked = look(tx, zone, tmp_path)

    assert moved == 0
    assert path.read_text() == "2"
    assert [file.name for file in looked.new] == ["a.csv"]


def test_a_file_that_a_run_reads_cannot_be_rejected(
    metadata: Metadata, tmp_path: Path
) -> None:
    with metadata.transaction() as tx:
        pipeline_id = make_pipeline(tx)
        zone = make_zone(tx)
        put(tmp_path, zone, "a.csv")
        look(tx, zone, tmp_path)
        claim(tx, pipeline_id)

        with pytest.raises(LandingError, match="is reading"):
            archive.reject(tx, zone, root=tmp_path, name="a.csv")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("id,price\n1,2.5\n", None),
        ("price,id\n1,2\n", None),
        ("id\n1\n", "column price is missing"),
        ("id,price,x\n1,2,3\n", "column x is not expected"),
        ("id,price\na,2\n", "column id is VARCHAR (a), expected BIGINT"),
        ("id,price\n1.5,2\n", "column id is DOUBLE (1.5), expected BIGINT"),
    ],
)
def test_a_csv_file_fits_the_expected_columns_or_says_why_not(
    tmp_path: Path, content: str, problem: str | None
) -> None:
    path = tmp_path / "a[1].csv"
    path.write_text(content)

    with duckdb.connect() as connection:
        found = check_expected(
            connection,
            path,
            name="shop/orders/a.csv",
            expected={"id": "BIGINT", "price": "DOUBLE"},
        )

    assert found == (problem and f"shop/orders/a.csv: {problem}")


def test_parquet_and_json_are_checked_by_their_types(tmp_path: Path) -> None:
    with duckdb.connect() as connection:
        parquet, json = tmp_path / "a.parquet", tmp_path / "a.json"
        connection.execute(f"COPY (SELECT 1::INT AS id, 'x' AS n) TO '{parquet}'")
        json.write_text('{"id": 1, "n": "x"}\n')
        fits = {"id": "bigint", "n": "varchar"}
        found = [
            check_expected(connection, path, name=path.name, expected=expected)
            for path, expected in [
                (parquet, fits),
                (json, fits),
                (parquet, {"id": "VARCHAR", "n": "VARCHAR"}),
                (json, {"id": "BIGINT", "n": "DATE"}),
            ]
        ]

    assert found == [
        None,
        None,
        "a.parquet: column id is INTEGER, expected VARCHAR",
        "a.json: column n is VARCHAR (x), expected DATE",
    ]
