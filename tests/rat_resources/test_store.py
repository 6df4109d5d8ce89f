"""The store keeps what it is given, whole, and never leaves its folder."""

from pathlib import Path

import pytest

from rat_resources.errors import NotFoundError, StoreError
from rat_resources.store import Store, object_key


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


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
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("a", b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(StoreError, match="No space left on device; check RAT_STORE"):
        store.write("a", b"new")

    assert store.read("a") == b"old"
    assert [path.name for path in store.root.iterdir()] == ["a"]


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
    store: Store, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    store.write("a/x", b"")
    (store.root / "a" / "link").symlink_to(tmp_path / "secret")

    with pytest.raises(StoreError, match="leads out of the store"):
        store.read("a/link")

    assert store.list() == ["a/x"]


def test_equal_content_is_one_object(store: Store) -> None:
    first = store.put_object(b"SELECT 1")
    second = store.put_object(b"SELECT 1")

    assert first == second
    assert first.startswith("sha256:")
    assert store.get_object(first) == b"SELECT 1"
    assert len(store.list("_objects")) == 1


def test_a_damaged_object_is_never_read_and_can_be_put_again(store: Store) -> None:
    name = store.put_object(b"SELECT 1")
    store.path(object_key(name)).write_bytes(b"SELECT 2")

    with pytest.raises(StoreError, match="is damaged"):
        store.get_object(name)

    store.put_object(b"SELECT 1")
    assert store.get_object(name) == b"SELECT 1"


def test_a_name_that_is_no_hash_is_no_object(store: Store) -> None:
    with pytest.raises(StoreError, match="names no object"):
        store.get_object("sha256:../../etc/passwd")
