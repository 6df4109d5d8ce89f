"""Storage: files are found and removed, and locations are the same in every spelling."""

from pathlib import Path

import pytest

from rat_resources.lake.storage import LocalFiles, file_name, files_of, is_within
from rat_resources.places import Place


@pytest.mark.parametrize(
    "location",
    [
        "s3://lake/rat/shop/orders/data/day=1 2/x.parquet",
        "s3a://lake/rat/shop/orders/data/day=1%202/x.parquet",
        "file:/lake/rat/shop/orders/data/x.parquet",
        "/lake/rat/shop/orders/data/x.parquet",
    ],
)
def test_a_file_has_one_name_however_its_path_is_spelled(location: str) -> None:
    assert file_name(location) == "x.parquet"


@pytest.mark.parametrize(
    ("location", "folder", "expected"),
    [
        ("s3a://lake/rat/orders", "s3://lake/rat", True),
        ("file:/lake/rat/orders", "file:///lake/rat", True),
        ("/lake/my%20rat/orders", "file:///lake/my rat", True),
        ("s3://lake/rat-2/orders", "s3://lake/rat", False),
        ("s3://lake/rat", "s3://lake/rat", False),
        ("s3://other/rat/orders", "s3://lake/rat", False),
    ],
)
def test_what_is_within_a_folder_is_in_any_spelling(
    location: str, folder: str, *, expected: bool
) -> None:
    assert is_within(location, folder) is expected


def test_files_are_listed_with_their_sizes_and_removed(place: Place) -> None:
    folder = f"{place.as_uri()}/orders"
    files = files_of(folder)
    for name in ("data/a.parquet", "data/day=1/b.parquet"):
        files.write(f"{folder}/{name}", b"1234", anew=True)

    found = {each.location: each.size for each in files.list(f"{folder}/data")}
    failed = files.remove(sorted(found))

    names = ("data/a.parquet", "data/day=1/b.parquet")
    assert found == {f"{folder}/{name}": 4 for name in names}
    assert not failed
    assert not list(files.list(folder))
    assert not files.remove(sorted(found))


def test_a_file_is_written_anew_only_where_there_is_none(place: Place) -> None:
    location = f"{place.as_uri()}/marker.json"
    files = files_of(location)

    written = [files.write(location, each, anew=True) for each in (b"mine", b"theirs")]

    assert written == [True, False]
    assert files.read(location) == b"mine"


def test_links_are_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "x.parquet").touch()
    folder = tmp_path / "orders"
    folder.mkdir()
    (folder / "data").symlink_to(elsewhere)
    (folder / "y.parquet").symlink_to(elsewhere / "x.parquet")

    assert not list(LocalFiles().list(str(folder)))
