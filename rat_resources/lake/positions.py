"""Positions: rows die where they stand, by delete files that name their places in data files.

A delete file belongs to one partition of one spec, that of the data files it speaks of. Which rows
die is `merging`; whether a file is marked or written anew is `choosing`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from duckdb import DuckDBPyConnection
from pyiceberg.conversions import to_bytes
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import FileScanTask
from pyiceberg.types import StringType

from rat_resources.lake.locations import duckdb_path
from rat_resources.lake.planning import PartitionKey, partition_key
from rat_resources.lake.reading import FILE, POSITION, Tasks
from rat_resources.lake.sql import literal
from rat_resources.lake.target import Target
from rat_resources.lake.writing import data_folder

PATH_ID = 2147483546  # what Iceberg calls the columns of a delete file
POS_ID = 2147483545
MOST_DELETES = (
    8  # delete files that a data file has, before the next one takes their place
)
_BATCH = 1 << 20
_SCHEMA = pa.schema(
    [
        pa.field(name, kind, nullable=False, metadata={"PARQUET:field_id": str(number)})
        for name, kind, number in (
            ("file_path", pa.dictionary(pa.int32(), pa.string()), PATH_ID),
            ("pos", pa.int64(), POS_ID),
        )
    ]
)


@dataclass(frozen=True)
class Marks:
    """Delete files that are new, and those whose positions they hold as well."""

    added: tuple[DataFile, ...] = ()
    removed: tuple[DataFile, ...] = ()


def write_deletes(
    connection: DuckDBPyConnection,
    rows: str,
    *,
    tasks: Tasks,
    target: Target,
    leaving: Iterable[DataFile] = (),
) -> Marks:
    """Write delete files for rows in the table *rows*, each told by its FILE and POSITION.

    There is one for each partition of each spec that *tasks* are of; rows of other tasks are left
    out. Where a data file has many delete files already, the new one takes the place of some, but
    for what these say of data files that are *leaving*.
    """
    gone = frozenset(file.file_path for file in leaving)
    added: list[DataFile] = []
    removed: list[DataFile] = []
    for group in by_partition(tasks).values():
        folded = fold(file for task in group.values() for file in task.delete_files)
        marking = _Marking(connection, target, group, rows, folded, gone)
        added.append(marking.write())
        removed += folded
    return Marks(tuple(added), tuple(removed))


def by_partition(tasks: Tasks) -> Mapping[PartitionKey, Tasks]:
    """The tasks of each partition of each spec."""
    groups: dict[PartitionKey, dict[int, FileScanTask]] = defaultdict(dict)
    for number, task in tasks.items():
        groups[partition_key(task.file)][number] = task
    return groups


def fold(deletes: Iterable[DataFile]) -> list[DataFile]:
    """Those of a partition's delete files that the next one takes the place of.

    None while there are few. Then the smaller half, and larger ones as long as they are no larger
    than all before them: so a position is written once more only when the files have doubled.
    """
    files = sorted(set(deletes), key=lambda file: file.record_count)
    if len(files) < MOST_DELETES:
        return []
    folded: list[DataFile] = []
    rows = 0
    for file in files:
        if len(folded) > MOST_DELETES // 2 and file.record_count > rows:
            break
        folded.append(file)
        rows += file.record_count
    return folded


@dataclass(frozen=True)
class _Marking:
    """One delete file in the making."""

    connection: DuckDBPyConnection
    target: Target
    tasks: Tasks
    rows: str
    folded: Sequence[DataFile]
    gone: frozenset[str]

    def write(self) -> DataFile:
        """Write it, without telling anybody about it."""
        paths = self.paths()
        reader = self.connection.execute(
            f"SELECT place, pos FROM ({self.places(paths)}) ORDER BY ALL"
        ).to_arrow_reader(_BATCH)
        location = f"{data_folder(self.target.metadata)}/{uuid4().hex}-deletes.parquet"
        with self.target.io.new_output(location).create() as stream:
            with pq.ParquetWriter(stream, _SCHEMA, compression="zstd") as writer:
                places = _copy(reader, writer, paths=pa.array(paths, pa.string()))
            size = stream.tell()
        like = next(iter(self.tasks.values())).file
        return _delete_file(location, places, size=size, paths=paths, like=like)

    def paths(self) -> list[str]:
        """The data files that it may speak of, in the order of their paths."""
        tasks = self.tasks
        if self.folded:
            # Positions in data files that are gone are not kept.
            first = next(iter(tasks.values())).file
            everything = by_partition(self.target.plan())
            tasks = everything[partition_key(first)]
        return sorted({task.file.file_path for task in tasks.values()} - self.gone)

    def places(self, paths: Sequence[str]) -> str:
        """A query for the positions, each with the place of its file among *paths*."""
        place = {path: number for number, path in enumerate(paths)}
        by_number = [
            str(place[self.tasks[n].file.file_path]) if n in self.tasks else "NULL"
            for n in range(max(self.tasks) + 1)
        ]
        query = (
            f"SELECT ([{', '.join(by_number)}]::INTEGER[])[{FILE} + 1] AS place, "
            f"{POSITION} AS pos FROM {self.rows} WHERE place IS NOT NULL"
        )
        if not self.folded:
            return query
        named = ", ".join(f"({literal(path)}, {n})" for path, n in place.items())
        deletes = ", ".join(literal(duckdb_path(f.file_path)) for f in self.folded)
        return (
            f"{query} UNION SELECT place::INTEGER, pos "
            f"FROM read_parquet([{deletes}], union_by_name = true, hive_partitioning = false) "
            f"JOIN (VALUES {named}) AS known(file_path, place) USING (file_path)"
        )


@dataclass
class _Places:
    """What a delete file speaks of: how many positions, in files from one place to another."""

    count: int = 0
    first: int = 0
    last: int = 0


def _copy(
    reader: pa.RecordBatchReader, writer: pq.ParquetWriter, *, paths: pa.Array
) -> _Places:
    """Write the positions, the place in *paths* as a path."""
    found = _Places()
    for batch in reader:
        places = batch.column(0)
        if not batch.num_rows:
            continue
        if not found.count:
            found.first = places[0].as_py()
        found.last = places[-1].as_py()
        found.count += batch.num_rows
        named = pa.DictionaryArray.from_arrays(places, paths)
        writer.write_batch(
            pa.RecordBatch.from_arrays([named, batch.column(1)], schema=_SCHEMA)
        )
    return found


def _delete_file(
    location: str, places: _Places, *, size: int, paths: Sequence[str], like: DataFile
) -> DataFile:
    """The delete file as a manifest describes it, of the partition of the data file *like*."""
    # Bounds that are cut short would be read as an exact path.
    low, high = (
        to_bytes(StringType(), paths[place]) for place in (places.first, places.last)
    )
    count = places.count
    file = DataFile.from_args(
        content=DataFileContent.POSITION_DELETES,
        file_path=location,
        file_format=FileFormat.PARQUET,
        partition=like.partition,
        record_count=count,
        file_size_in_bytes=size,
        value_counts={PATH_ID: count, POS_ID: count},
        null_value_counts={PATH_ID: 0, POS_ID: 0},
        lower_bounds={PATH_ID: low},
        upper_bounds={PATH_ID: high},
        equality_ids=None,
        key_metadata=None,
        sort_order_id=None,
    )
    file.spec_id = like.spec_id
    return file
