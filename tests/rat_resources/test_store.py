"""The store keeps what it is given, whole, and never leaves its folder."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rat_resources.errors import NotFoundError, StoreError
from rat_resources.places import Place, S3Place
from rat_resources.s3_store import S3Store
from rat_resources.store import LocalStore, Store, object_key, open_store
from tests.servers.s3 import S3Server


@pytest.fixture
def store(place: Place) -> Store:
    return open_store(place)


@pytest.fixture
def local(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def test_what_is_written_is_read_and_listed(store: Store) -> None:
    store.write("nyc/pipelines/gold/x/pipeline.sql", b"SELECT 1")
    store.write("nyc/landing/z.yaml", b"")

    content = store.read("nyc/pipelines/gold/x/pipeline.sql")

    assert content == b"SELECT 1"
    assert store.list() == ["nyc/landing/z.yaml", "nyc/pipelines/gold/x/pipeline.sql"]
    assert store.list("nyc/landing") == ["nyc/landing/z.yaml"]
    assert store.list("nowhere") == []


def test_hidden_files_and_compiled_python_are_not_listed(store: Store) -> None:
    for key in ("a/.git/config", "a/.draft.tmp", "a/__pycache__/x.pyc", "a/x"):
        store.write(key, b"")

    keys = store.list()

    assert keys == ["a/x"]


def test_a_failed_write_leaves_the_old_content_and_no_draft(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.write("a", b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(StoreError, match="No space left on device; check RAT_STORE"):
        local.write("a", b"new")

    assert local.read("a") == b"old"
    assert [path.name for path in local.root.iterdir()] == ["a"]


def test_a_key_that_is_not_there_is_not_found(store: Store) -> None:
    with pytest.raises(NotFoundError, match="holds no nyc/x"):
        store.read("nyc/x")


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "a/../../x", "a\\b", "a\0b"]
)
def test_a_key_that_leads_elsewhere_is_refused(store: Store, key: str) -> None:
    with pytest.raises(StoreError, match="is no key of a store"):
        store.write(key, b"")


def test_a_link_out_of_the_store_is_refused_and_not_listed(
    local: LocalStore, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    local.write("a/x", b"")
    (local.root / "a" / "link").symlink_to(tmp_path / "secret")

    with pytest.raises(StoreError, match="leads out of the store"):
        local.read("a/link")

    assert local.list() == ["a/x"]


def test_equal_content_is_one_object(store: Store) -> None:
    first = store.put_object(b"SELECT 1")
    second = store.put_object(b"SELECT 1")

    assert first == second
    assert first.startswith("sha256:")
    assert store.get_object(first) == b"SELECT 1"
    assert len(store.list("_objects")) == 1


def test_a_damaged_object_is_never_read_and_can_be_put_again(store: Store) -> None:
    name = store.put_object(b"SELECT 1")
    store.write(object_key(name), b"SELECT 2")

    with pytest.raises(StoreError, match="is damaged"):
        store.get_object(name)

    store.put_object(b"SELECT 1")
    assert store.get_object(name) == b"SELECT 1"


def test_a_name_that_is_no_hash_is_no_object(store: Store) -> None:
    with pytest.raises(StoreError, match="names no object"):
        store.get_object("sha256:../../etc/passwd")


def test_what_lies_in_the_store_has_a_size_and_an_age(store: Store) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)
    store.write("_logs/shop/a.jsonl", b"{}")

    (entry,) = store.entries("_logs")

    assert (entry.key, entry.size) == ("_logs/shop/a.jsonl", 2)
    assert before < entry.modified < before + timedelta(hours=1)


def test_large_content_goes_up_in_parts(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rat_resources.s3_store.LARGE", 1 << 20)
    store = S3Store(S3Place(bucket, "rat"))
    content = b"0123456789abcdef" * (10 << 16)

    store.write("large", content)

    etag = s3_server.client().head_object(Bucket=bucket, Key="rat/large")["ETag"]
    assert "-" in etag  # of several parts
    assert store.read("large") == content


def test_an_object_tells_the_version_that_it_got_when_it_was_first_kept(
    s3_server: S3Server, bucket: str
) -> None:
    store = S3Store(S3Place(bucket, "rat"))

    first, again = store.keep(b"SELECT 1"), store.keep(b"SELECT 1")

    key = f"rat/{object_key(first.name)}"
    versions = s3_server.client().list_object_versions(Bucket=bucket, Prefix=key)
    assert [each["VersionId"] for each in versions["Versions"]] == [first.version_id]
    assert again == first


def test_a_bucket_without_versions_keeps_objects_as_well(
    s3_server: S3Server, bucket: str
) -> None:
    plain = S3Place(s3_server.make_bucket(versioned=False), "rat")

    kept = open_store(plain).keep(b"SELECT 1")

    assert kept.version_id is None
    assert open_store(plain).get_object(kept.name) == b"SELECT 1"
