"""Spilling: what one DuckDB puts on disk is nobody else's, and does not stay."""

from pathlib import Path
from urllib.parse import quote

from rat_resources.lake import Lake
from rat_resources.lake.embedded_refs import EmbeddedRefs
from rat_resources.lake.spilling import forget_dead, spill_folder
from rat_resources.metadata import Metadata
from rat_resources.workers import this_worker
from tests.rat_resources.test_workers import dead_worker

MORE_THAN_MEMORY = """
CREATE TEMP TABLE kept AS
SELECT '{word}' AS word, repeat('{word}', 20) AS words FROM range(600000) ORDER BY hash(range)
"""


def test_two_that_spill_at_once_keep_their_own_rows(
    metadata: Metadata, tmp_path: Path
) -> None:
    lake = Lake(EmbeddedRefs(metadata.engine), "file:///nowhere", tmp_path / "spill")

    with lake.connect() as one, lake.connect() as other:
        for connection, word in ((one, "a"), (other, "b")):
            connection.execute("SET memory_limit = '20MB'; SET threads = 1")
            connection.execute(MORE_THAN_MEMORY.format(word=word))
        spilled = list(lake.spill.glob("*/duckdb_temp_*"))
        found = [
            connection.execute("SELECT DISTINCT word, words FROM kept").fetchall()
            for connection in (one, other)
        ]

    assert len({file.parent for file in spilled}) == 2
    assert found == [[("a", "a" * 20)], [("b", "b" * 20)]]
    assert list(lake.spill.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    left = tmp_path / f"{quote(dead_worker(), safe='')},1"
    others = [tmp_path / "somebody,s", tmp_path / f"{quote(this_worker(), safe='')},1"]
    for folder in (left, *others):
        folder.mkdir()

    forget_dead(tmp_path)

    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_nothing_is_made_where_nothing_spills(tmp_path: Path) -> None:
    with spill_folder(tmp_path / "spill") as folder:
        made = folder.exists()

    assert not made
