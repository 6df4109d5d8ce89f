"""Plans: what would make a table faster to read and cheaper to write, by its manifests.

A plan is a pure function of a table, of what is said of its layout, and of the time: no data file is
opened, and asked twice it says the same. Carrying it out is `compacting` and `expiring`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from math import ceil
from typing import Any

import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import FileScanTask, Table
from pyiceberg.table.snapshots import Snapshot

from rat_resources.lake import planning
from rat_resources.lake.committing import SNAPSHOTS_KEPT
from rat_resources.lake.sorting import SortField
from rat_resources.lake.writing import target_size
from rat_resources.names import TableName

SMALL = 0.75  # of the target's size: what is larger is left as it is
FEWEST = 5  # small files of a partition that are worth a commit
# A file that goes saves its readers about as much as so many bytes cost to write, each night anew.
WORTH = 16 * 1024 * 1024
DEAD = 0.1  # of a file's rows: where more of them are dead, it is written without them
DELETE_FILES = 4  # that speak of one file
FEWEST_SNAPSHOTS = 5  # over their time, that are worth a commit
LOG_KEPT = 50  # metadata files that a table names as its former ones


class Why(StrEnum):
    """Why files are rewritten."""

    SMALL = "small files"
    DEAD = "dead rows"
    DELETES = "many delete files"
    EQUALITY = "equality deletes"


@dataclass(frozen=True)
class Layout:
    """How the rows of a table shall lie, and how long it remembers how they lay."""

    order: tuple[SortField, ...] = ()  # what each new file is sorted by
    keeps_order: bool = True  # of writing: the later of two rows stays the later
    retention: timedelta | None = timedelta(days=7)  # of snapshots; None: for ever


@dataclass(frozen=True)
class File:
    """A data file of a table, and how many of its rows are dead."""

    task: FileScanTask
    dead: int = 0

    @property
    def data(self) -> DataFile:
        """The file as a manifest describes it."""
        return self.task.file

    @property
    def rows(self) -> int:
        """The rows that are alive."""
        return self.data.record_count - self.dead

    @property
    def live_bytes(self) -> int:
        """About what its rows that are alive would take."""
        return round(
            self.data.file_size_in_bytes * self.rows / (self.data.record_count or 1)
        )

    @property
    def share(self) -> float:
        """How much of it is dead."""
        return self.dead / (self.data.record_count or 1)

    @property
    def burden(self) -> Why | None:
        """Why it is better written anew, whatever lies beside it."""
        if any(each.equality_ids for each in self.task.delete_files):
            return Why.EQUALITY
        if self.share >= DEAD:
            return Why.DEAD
        if len(self.task.delete_files) > DELETE_FILES:
            return Why.DELETES
        return None


@dataclass(frozen=True)
class Bin:
    """Files of one partition that become one, in the order in which they are read."""

    files: tuple[File, ...]
    partition: str

    @property
    def why(self) -> tuple[Why, ...]:
        """Why they are rewritten."""
        found = {each.burden for each in self.files} - {None}
        if len(self.files) > 1:
            found.add(Why.SMALL)
        return tuple(each for each in Why if each in found)

    @property
    def rows(self) -> int:
        """The rows that they have."""
        return sum(each.rows for each in self.files)

    @property
    def dead(self) -> int:
        """The rows that nobody sees any more."""
        return sum(each.dead for each in self.files)

    @property
    def bytes(self) -> int:
        """What is read, and about what is written."""
        return sum(each.data.file_size_in_bytes for each in self.files)


@dataclass(frozen=True)
class TablePlan:
    """What shall be done to one table."""

    name: TableName
    table: Table
    target_size: int
    layout: Layout
    bins: tuple[Bin, ...] = ()
    expired: tuple[int, ...] = ()  # snapshots
    log_entries: int = 0  # former metadata files that the table need not name

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.bins or self.expired or self.log_entries)

    @property
    def files_before(self) -> int:
        """The files that are rewritten."""
        return sum(len(each.files) for each in self.bins)

    @property
    def files_after(self) -> int:
        """About how many they become."""
        return sum(1 for each in self.bins if each.rows)

    @property
    def bytes(self) -> int:
        """What is rewritten."""
        return sum(each.bytes for each in self.bins)

    @cached_property
    def why(self) -> Mapping[Why, int]:
        """Why, and how many files each reason is about."""
        counted: Counter[Why] = Counter()
        for each in self.bins:
            for why in each.why:
                counted[why] += len(each.files)
        return {why: counted[why] for why in Why if counted[why]}

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON has it."""
        return {
            "table": str(self.name),
            "why": {why.value: files for why, files in self.why.items()},
            "files_before": self.files_before,
            "files_after": self.files_after,
            "bytes": self.bytes,
            "dead_rows": sum(each.dead for each in self.bins),
            "partitions": len({each.partition for each in self.bins}),
            "snapshots": len(self.expired),
            "metadata_files": self.log_entries,
        }


def plan(name: TableName, table: Table, *, layout: Layout, now: datetime) -> TablePlan:
    """What shall be done to *table*."""
    target = target_size(table.metadata)
    return TablePlan(
        name,
        table,
        target,
        layout,
        bins=tuple(bins(table, target=target, in_order=layout.keeps_order)),
        expired=tuple(over_time(table, before=layout.retention, now=now)),
        log_entries=max(0, len(table.metadata.metadata_log) - LOG_KEPT),
    )


# Files.


def bins(table: Table, *, target: int, in_order: bool) -> Iterator[Bin]:
    """The files that are rewritten, bin by bin; *in_order*: only neighbours share one."""
    for partition, files in by_partition(table).items():
        if in_order and files[0].data.spec_id != table.spec().spec_id:
            continue  # divided anew, their rows could not lie as they were written
        for run in runs_of(files, target=target, in_order=in_order):
            for packed in pack(run, target=target):
                if pays(packed):
                    yield Bin(tuple(packed), partition)


def current_bins(table: Table, planned: Iterable[Bin]) -> list[Bin]:
    """Those of the *planned* bins whose files the table still has, with what is dead in them now."""
    known = {
        each.data.file_path: each
        for files in by_partition(table).values()
        for each in files
    }
    return [
        replace(each, files=tuple(known[file.data.file_path] for file in each.files))
        for each in planned
        if all(file.data.file_path in known for file in each.files)
    ]


def by_partition(table: Table) -> dict[str, list[File]]:
    """The files of each partition under each spec, in the order in which they are read."""
    found: dict[str, list[File]] = {}
    tasks = planning.plan(table.metadata, io=table.io)
    dead = dead_rows(table, tasks)
    for task in tasks:
        file = task.file
        key = f"{file.spec_id}:{partition_path(table, file)}"
        found.setdefault(key, []).append(File(task, dead[file.file_path]))
    return found


def partition_path(table: Table, file: DataFile) -> str:
    """The partition of a file as Iceberg names it; empty where there is none."""
    spec = table.metadata.specs()[file.spec_id]
    return spec.partition_to_path(file.partition, table.schema()) if spec.fields else ""


def dead_rows(table: Table, tasks: Iterable[FileScanTask]) -> Counter[str]:
    """How many rows of each file are dead by position, as its delete files say."""
    counted: Counter[str] = Counter()
    for delete in {d.file_path: d for t in tasks for d in t.delete_files}.values():
        if delete.content == DataFileContent.POSITION_DELETES:
            counted += spoken_of(table.io, delete)
    return counted


def spoken_of(io: FileIO, delete: DataFile) -> Counter[str]:
    """How many positions in each data file a delete file names, by the one column that says so."""
    if delete.file_format is not FileFormat.PARQUET:
        return Counter()  # who reads such tables counts otherwise
    with io.new_input(delete.file_path).open() as source:
        paths = pq.read_table(source, columns=["file_path"])["file_path"]
    return Counter(
        {each["values"]: each["counts"] for each in paths.value_counts().to_pylist()}
    )


def runs_of(
    files: Sequence[File], *, target: int, in_order: bool
) -> Iterator[list[File]]:
    """The files that are worth a look, apart where one between them is left as it is."""
    run: list[File] = []
    for file in files:
        if file.burden or file.data.file_size_in_bytes < SMALL * target:
            run.append(file)
        elif in_order and run:
            yield run
            run = []
    if run:
        yield run


def pack(files: Sequence[File], *, target: int) -> Iterator[list[File]]:
    """The files in bins of about the same size, none of which is larger than the target."""
    total = sum(each.live_bytes for each in files)
    wanted = total / max(1, ceil(total / target))
    packed: list[File] = []
    size = 0
    for file in files:
        if packed and size + file.live_bytes / 2 > wanted:
            yield packed
            packed, size = [], 0
        packed.append(file)
        size += file.live_bytes
    if packed:
        yield packed


def pays(packed: Sequence[File]) -> bool:
    """Whether rewriting these files into one is worth it."""
    if any(each.burden for each in packed):
        return True
    if len(packed) < FEWEST:
        return False
    size = sum(each.data.file_size_in_bytes for each in packed)
    return size <= (len(packed) - 1) * WORTH


# Snapshots.


def over_time(
    table: Table, *, before: timedelta | None, now: datetime
) -> Iterator[int]:
    """The snapshots that nobody keeps any more, where they are worth a commit."""
    kept = kept_snapshots(table)
    others = sorted(
        (each for each in table.metadata.snapshots if each.snapshot_id not in kept),
        key=lambda each: each.sequence_number or 0,
    )
    surplus = max(0, len(others) + len(kept) - SNAPSHOTS_KEPT)
    gone = [
        each.snapshot_id
        for position, each in enumerate(others)
        if position < surplus or (before is not None and made_at(each) < now - before)
    ]
    if len(gone) >= FEWEST_SNAPSHOTS:
        yield from gone


def kept_snapshots(table: Table) -> set[int]:
    """What branches and tags of the table show, and what its rows were made from last."""
    kept = {ref.snapshot_id for ref in table.metadata.refs.values()}
    current = table.current_snapshot()
    if current is not None:
        kept.add(current.snapshot_id)
        if current.parent_snapshot_id is not None:
            # By it others see that their rows can go on top of the newest.
            kept.add(current.parent_snapshot_id)
    return kept


def made_at(snapshot: Snapshot) -> datetime:
    """When a snapshot was made."""
    return datetime.fromtimestamp(snapshot.timestamp_ms / 1000, tz=UTC)
