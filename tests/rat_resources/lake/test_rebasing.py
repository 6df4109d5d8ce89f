"""Rebasing: what goes on top of what others published, and what must not."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.types import IntegerType, LongType, StringType

from rat_resources.lake.catalog import RefCatalog
from rat_resources.lake.embedded_refs import EmbeddedRefs
from rat_resources.lake.rebasing import Sides, describe, since
from rat_resources.lake.refs import MAIN
from rat_resources.metadata import Metadata

KEY = ("shop", "bronze", "numbers")
ROWS = pa.table({"n": pa.array([1, 2], pa.int32())})


@dataclass
class Fork:
    """A table of two rows that two branches go on with."""

    refs: EmbeddedRefs
    warehouse: Path

    def catalog(self, branch: str) -> Catalog:
        """The tables of a branch."""
        return RefCatalog(self.refs, ref=branch, warehouse=self.warehouse)

    def table(self, branch: str) -> Table:
        """The table as a branch has it."""
        return self.catalog(branch).load_table(KEY)

    @property
    def sides(self) -> Sides:
        """Both sides as they are now."""
        return Sides(self.table(MAIN), self.table("ours"), self.table("theirs"))


@pytest.fixture
def fork(metadata: Metadata, tmp_path: Path) -> Fork:
    """A fork of which neither side has gone on yet."""
    refs = EmbeddedRefs(metadata.engine)
    refs.bootstrap()
    fork = Fork(refs, tmp_path / "warehouse")
    fork.catalog(MAIN).create_table(KEY, schema=ROWS.schema).append(ROWS)
    for side in ("ours", "theirs"):
        refs.create(side, at=MAIN)
    return fork


def add_rows(table: Table) -> None:
    """Append."""
    table.append(ROWS)


def add_many(table: Table) -> None:
    """Append twice."""
    table.append(ROWS)
    table.append(ROWS)


def overwrite(table: Table) -> None:
    """Put other rows in their place."""
    table.overwrite(ROWS)


def delete(table: Table) -> None:
    """Delete a row."""
    table.delete("n = 1")


def add_column(table: Table) -> None:
    """Add a column, and a row that has it."""
    with table.update_schema() as update:
        update.add_column("said", StringType())
    table.append(pa.table({"n": pa.array([3], pa.int32()), "said": ["x"]}))


def widen(table: Table) -> None:
    """Let a column be of another type."""
    with table.update_schema() as update:
        update.update_column("n", LongType())


def rename(table: Table) -> None:
    """Call a column otherwise."""
    with table.update_schema() as update:
        update.rename_column("n", "m")


def come_and_go(table: Table) -> None:
    """Add a column and drop it: its id is never another column's."""
    with table.update_schema() as update:
        update.add_column("said", IntegerType())
    with table.update_schema() as update:
        update.delete_column("said")


def partition(table: Table) -> None:
    """Divide what is written from now on."""
    with table.update_spec() as update:
        update.add_identity("n")


@pytest.mark.parametrize("theirs", [add_rows, add_many])
def test_rows_of_both_sides_stand_together_by_the_same_files(
    fork: Fork, theirs: Callable[[Table], None]
) -> None:
    add_many(fork.table("ours"))
    theirs(fork.table("theirs"))
    sides = fork.sides
    files = {task.file.file_path for task in sides.ours.scan().plan_files()}

    before = sides.theirs.scan().to_arrow().num_rows
    refusal = sides.refusal

    both = sides.reapply(fork.table("theirs"))

    assert refusal is None
    stands = {task.file.file_path for task in both.scan().plan_files()}
    assert files <= stands
    assert both.scan().to_arrow().num_rows == before + 4


@pytest.mark.parametrize(
    ("ours", "theirs", "why"),
    [
        (add_column, add_column, "we changed its columns or its partitions"),
        (add_rows, add_column, "they changed its columns"),
        (add_rows, widen, "they changed its columns"),
        (add_rows, rename, "they changed its columns"),
        (add_rows, come_and_go, "they changed its columns"),
        (add_rows, partition, "they changed its columns or its partitions"),
        (overwrite, add_rows, "we did not only add rows"),
        (add_rows, overwrite, "they did not only add rows"),
        (add_rows, delete, "they did not only add rows"),
    ],
)
def test_whatever_is_more_than_added_rows_is_refused(
    fork: Fork,
    ours: Callable[[Table], None],
    theirs: Callable[[Table], None],
    why: str,
) -> None:
    ours(fork.table("ours"))
    theirs(fork.table("theirs"))

    assert why in (fork.sides.refusal or "")


def test_a_table_that_was_made_anew_is_another_one(fork: Fork) -> None:
    add_rows(fork.table("ours"))
    catalog = fork.catalog("theirs")
    catalog.drop_table(KEY)
    catalog.create_table(KEY, schema=ROWS.schema).append(ROWS)

    assert fork.sides.refusal is not None
    assert "made it anew" in describe(fork.table("theirs"), base=fork.table(MAIN))


def cut(table: Table) -> Table:
    """*table* as other engines leave it: nothing but its newest snapshot, which has no parent."""
    newest = table.current_snapshot()
    assert newest is not None
    said = table.metadata.model_dump(by_alias=True)
    alone = newest.model_dump(by_alias=True) | {"parent-snapshot-id": None}
    said |= {"snapshots": [alone], "snapshot-log": [], "last-sequence-number": 1}
    metadata: TableMetadata = type(table.metadata).model_validate(said)
    return Table(KEY, metadata, table.metadata_location, table.io, table.catalog)


def test_what_comes_of_unknown_snapshots_is_no_append(fork: Fork) -> None:
    add_rows(fork.table("ours"))
    add_rows(fork.table("theirs"))
    sides = fork.sides
    theirs = cut(sides.theirs)

    refusal = Sides(sides.base, sides.ours, theirs).refusal

    assert refusal == "nobody can tell what they did to its rows"
    assert since(theirs, base=sides.base) is None
    assert "nobody knows any more" in describe(theirs, base=sides.base)


def test_a_cut_history_of_a_table_that_was_empty_is_no_append_either(
    metadata: Metadata, tmp_path: Path
) -> None:
    refs = EmbeddedRefs(metadata.engine)
    refs.bootstrap()
    fork = Fork(refs, tmp_path / "warehouse")
    base = fork.catalog(MAIN).create_table(KEY, schema=ROWS.schema)
    add_many(fork.table(MAIN))
    cut_off = cut(fork.table(MAIN))
    cut_off.metadata = cut_off.metadata.model_copy(update={"last_sequence_number": 2})

    assert since(cut_off, base=base) is None


def test_both_sides_of_a_conflict_are_told_in_words(fork: Fork) -> None:
    add_rows(fork.table("ours"))
    add_column(fork.table("theirs"))
    sides = fork.sides

    ours, theirs = (
        describe(each, base=sides.base) for each in (sides.ours, sides.theirs)
    )

    assert ours == "2 → 4 rows by append"
    assert theirs == "2 → 3 rows by append; added column said string"
    assert describe(None, base=sides.base) == "dropped it"
    assert describe(sides.ours, base=None) == "made it, with 4 rows"
