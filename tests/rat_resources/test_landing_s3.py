"""Landing zones in S3: a file is found by listing, known by its ETag, and read in the very version."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rat_resources import archive, landing, s3
from rat_resources.errors import LandingError
from rat_resources.landing import Looked, Zone
from rat_resources.landing_s3 import S3Files
from rat_resources.metadata import Metadata
from rat_resources.metadata.landing import FileState, LandingFile
from rat_resources.places import S3Place
from rat_resources.s3_store import S3Store
from tests.rat_resources.rows import make_pipeline, make_run, make_zone
from tests.servers.s3 import S3Server


@pytest.fixture
def root(bucket: str) -> S3Place:
    return S3Place(bucket, "rat")


@pytest.fixture
def files(root: S3Place) -> S3Files:
    return S3Files(root / "shop/landing/orders")


@pytest.fixture
def client(s3_server: S3Server) -> Any:  # noqa: ANN401 - boto3's
    return s3_server.client()


def put(files: S3Files, name: str, content: bytes = b"id\n1\n") -> None:
    S3Store(files.place).write(name, content)


def look(metadata: Metadata, zone: Zone, root: S3Place) -> Looked:
    with metadata.transaction() as tx:
        return landing.look(tx, zone, root=root, now=datetime.now(UTC))


def names(looked: Looked) -> list[str]:
    return sorted(file.name for file in looked.new)


def test_a_file_is_new_once_and_again_when_its_content_is_another(
    metadata: Metadata, root: S3Place, files: S3Files
) -> None:
    with metadata.transaction() as tx:
        make_pipeline(tx)
        zone = make_zone(tx)
    odd = ["a b.csv", 'it\'s "x".csv', "ü.csv", "deep/er/c.csv", "[1]*.csv"]
    for name in [*odd, "_processed/old.csv", ".hidden", "half.part", "deep/"]:
        put(files, name) if not name.endswith("/") else None

    first, second = (look(metadata, zone, root) for _ in range(2))
    put(files, "a b.csv")
    put(files, "ü.csv", b"id\n2\n")
    third = look(metadata, zone, root)

    assert names(first) == sorted(odd)
    assert second.is_empty
    assert names(third) == ["ü.csv"]


def test_a_file_that_is_taken_away_is_gone(
    metadata: Metadata, root: S3Place, files: S3Files
) -> None:
    with metadata.transaction() as tx:
        make_pipeline(tx)
        zone = make_zone(tx)
    put(files, "a.csv")
    look(metadata, zone, root)

    S3Store(files.place).delete("a.csv")

    assert look(metadata, zone, root).gone == ("a.csv",)


@pytest.mark.parametrize(
    "name", ["a/../../../b.csv", "a//b.csv", "/b.csv", "a\\b.csv", "x" * 300 + ".csv"]
)
def test_a_name_that_leads_out_of_a_folder_is_refused(
    files: S3Files,
    client: Any,  # noqa: ANN401
    name: str,
) -> None:
    client.put_object(
        Bucket=files.place.bucket, Key=f"{files.place.prefix}/{name}", Body=b""
    )

    seen = files.scan()

    assert not seen.found


def test_a_run_reads_the_version_that_it_claimed_though_it_was_overwritten(
    metadata: Metadata, root: S3Place, files: S3Files, tmp_path: Path
) -> None:
    put(files, "a.csv", b"first")
    with metadata.transaction() as tx:
        pipeline = make_pipeline(tx)
        zone = make_zone(tx)
        landing.look(tx, zone, root=root, now=datetime.now(UTC))
        run_id = make_run(tx, pipeline)
        claimed = landing.claim(
            tx,
            namespace="shop",
            zones={"orders": True},
            pipeline_id=pipeline,
            version_id=None,
            run_id=run_id,
        )
        put(files, "a.csv", b"second")

        staged = landing.stage(
            tx, run_id=run_id, files=claimed, root=root, folder=tmp_path / "run"
        )

    assert not staged.dropped
    assert (staged.folders["orders"] / "a.csv").read_bytes() == b"first"


def test_without_versions_what_was_overwritten_is_left_out(
    s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    plain = S3Files(S3Place(s3_server.make_bucket(versioned=False), "zone"))
    source, target = tmp_path / "a.csv", tmp_path / "copy"
    source.write_bytes(b"first")
    uploaded = plain.upload(source)
    source.write_bytes(b"second")
    plain.upload(source)

    why = plain.stage("a.csv", target=target, version=uploaded.version)

    assert uploaded.version_id is None
    assert why == "its content changed"
    assert not target.exists()
    assert plain.stage("b.csv", target=target, version="etag:1") == "it was taken away"


def test_what_is_uploaded_is_what_the_next_look_knows(
    metadata: Metadata,
    root: S3Place,
    files: S3Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with metadata.transaction() as tx:
        make_pipeline(tx)
        zone = make_zone(tx)
    monkeypatch.setattr("rat_resources.landing_s3.LARGE", 1 << 20)
    for name, size in (("small.csv", 10), ("large.csv", 10 << 20)):
        (tmp_path / name).write_bytes(b"x" * size)
        uploaded = files.upload(tmp_path / name)
        with metadata.transaction() as tx:
            landing.record_upload(tx, zone, uploaded=uploaded)

    assert look(metadata, zone, root).is_empty
    with pytest.raises(LandingError, match="never takes a file called"):
        files.upload(tmp_path / "small.csv", name="../x.csv")


def test_a_file_is_moved_aside_once_and_found_moved(
    metadata: Metadata, root: S3Place, files: S3Files
) -> None:
    put(files, "a.csv", b"first")
    with metadata.transaction() as tx:
        make_pipeline(tx)
        zone = make_zone(tx)
        landing.look(tx, zone, root=root, now=datetime.now(UTC))
        archive.reject(tx, zone, root=root, name="a.csv")
    with metadata.transaction() as tx:
        moved = archive.finish_moves(tx, zone, root=root)
        (file,) = tx.query(LandingFile).all()
        state, version = file.state, file.version

    again = files.move("a.csv", target="_rejected/a.csv", version=version)

    assert (moved, state, again) == (1, FileState.REJECTED, True)
    assert S3Store(files.place).list() == ["_rejected/a.csv"]
    assert not files.scan().found


@pytest.mark.parametrize(
    ("versioned", "knows_conditions"), [(True, True), (True, False), (False, True)]
)
def test_a_file_that_came_in_between_is_not_taken_away(
    s3_server: S3Server,
    bucket: str,
    *,
    versioned: bool,
    knows_conditions: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = S3Files(S3Place(s3_server.make_bucket(versioned=versioned), "zone"))
    put(files, "a.csv", b"first")
    head = files.head("a.csv") or {}
    copy_aside = S3Files.copy_aside

    def copy_slowly(self: S3Files, *args: Any, **named: Any) -> None:  # noqa: ANN401
        copy_aside(self, *args, **named)
        put(files, "a.csv", b"second")

    def delete_anyhow(self: S3Files, name: str, **_: Any) -> dict[str, Any]:  # noqa: ANN401
        return dict(s3.client().delete_object(**self.at(name)))

    monkeypatch.setattr(S3Files, "copy_aside", copy_slowly)
    if not knows_conditions:
        monkeypatch.setattr(S3Files, "delete", delete_anyhow)

    version = f"etag:{head['ETag'].strip(chr(34))}"
    files.move("a.csv", target="_processed/a.csv", version=version)

    assert files.scan().found
    store = S3Store(files.place)
    assert store.read("a.csv") == b"second"
    assert store.read("_processed/a.csv") == b"first"
