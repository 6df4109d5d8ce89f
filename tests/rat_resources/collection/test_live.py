"""Live files: names by the hundred thousand, and files of engines that write otherwise than RAT."""

import gzip
import json
from pathlib import Path

import pytest
from pyiceberg.io.pyarrow import PyArrowFileIO

from rat_resources.collection.live import UNSORTED, Live, Names, read_metadata
from rat_resources.collection.roots import Root
from rat_resources.errors import CollectionError

SAID = {
    "format-version": 2,
    "table-uuid": "u",
    "location": "file:///lake/orders/",
    "snapshots": [{"snapshot-id": 1, "manifest-list": "file:///lake/1.avro"}],
}


def test_more_names_than_are_kept_unsorted_are_all_known() -> None:
    names = Names()
    every = [str(number) for number in range(UNSORTED + 10)]

    names.add(map(hash, every))
    names.add([hash("one more")])

    assert len(names.sorted)
    assert all(each in names for each in (every[0], every[-1], "one more"))
    assert "another" not in names


def test_a_metadata_file_may_be_compressed(tmp_path: Path) -> None:
    path = tmp_path / "1.gz.metadata.json"
    path.write_bytes(gzip.compress(json.dumps(SAID).encode()))

    metadata = read_metadata(PyArrowFileIO(), str(path))

    assert metadata.lists == {1: "file:///lake/1.avro"}
    assert metadata.location == "file:///lake/orders"


@pytest.mark.parametrize(
    "said", [{**SAID, "format-version": 4}, {**SAID, "snapshots": [{}]}, []]
)
def test_what_is_not_understood_is_an_error(tmp_path: Path, said: object) -> None:
    path = tmp_path / "1.metadata.json"
    path.write_text(json.dumps(said))
    live = Live(PyArrowFileIO())

    with pytest.raises(CollectionError, match="which tag x needs for shop"):
        live.add([Root("shop", str(path), 1, "branches", "tag x", is_whole=True)])


def test_what_can_be_done_without_may_be_missing(tmp_path: Path) -> None:
    live = Live(PyArrowFileIO())
    gone = str(tmp_path / "gone.metadata.json")

    live.add([Root("shop", gone, 1, "runs", "run 1", is_promised=False)])
    broken = dict(live.broken)
    live.add([Root("sums", f"{gone}2", 1, "history", "commit 1")])

    assert not broken
    assert "commit 1 needs it" in live.broken["sums"]
