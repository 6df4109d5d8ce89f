"""Positions: rows die where they stand, by delete files that name their places in data files.

A delete file belongs to one partition of one spec, that of the data files it speaks of. Which rows
die is `merging`; whether a file is marked or written anew is `choosing`.
"""

from collections import defaultdict
from collections.abc import Mapping
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from duckdb import DuckDBPyConnection
from pyiceberg.conversions import to_bytes
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import FileScanTask
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.typedef import Record
from pyiceberg.types import StringType

from rat_resources.lake.reading import FILE, POSITION, Tasks
from rat_resources.lake.writing import data_folder

PATH_ID = 2147483546  # what Iceberg calls the columns of a delete file
POS_ID = 2147483545
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


def write_deletes(
    connection: DuckDBPyConnection,
    rows: str,
    *,
    tasks: Tasks,
    metadata: TableMetadata,
    io: FileIO,
) -> list[DataFile]:
    """Write delete files for the rows in the table *rows*, each told by its FILE and POSITION.

    *tasks* are those that hold any of them. There is one file for each partition of each spec;
    nobody is told about them.
    """
    return [
        _write(connection, rows, tasks=group, metadata=metadata, io=io)
        for group in by_partition(tasks).values()
    ]


def by_partition(tasks: Tasks) -> Mapping[tuple[int, Record], Tasks]:
    """The tasks of each partition of each spec."""
    groups: dict[tuple[int, Record], dict[int, FileScanTask]] = defaultdict(dict)
    for number, task in tasks.items():
        groups[task.file.spec_id, task.file.partition][number] = task
    return groups


def _write(
    connection: DuckDBPyConnection,
    rows: str,
    *,
    tasks: Tasks,
    metadata: TableMetadata,
    io: FileIO,
) -> DataFile:
    numbers = sorted(tasks, key=lambda number: tasks[number].file.file_path)
    paths = [tasks[number].file.file_path for number in numbers]
    places = {number: place for place, number in enumerate(numbers)}
    by_number = ", ".join(str(places.get(n, "NULL")) for n in range(max(numbers) + 1))
    reader = connection.execute(
        f"SELECT ([{by_number}]::INTEGER[])[{FILE} + 1] AS place, {POSITION} AS pos "
        f"FROM {rows} WHERE place IS NOT NULL ORDER BY ALL"
    ).to_arrow_reader(_BATCH)
    location = f"{data_folder(metadata)}/{uuid4().hex}-deletes.parquet"
    with io.new_output(location).create() as stream:
        with pq.ParquetWriter(stream, _SCHEMA, compression="zstd") as writer:
            count = _copy(reader, writer, paths=pa.array(paths, pa.string()))
        size = stream.tell()
    return _delete_file(
        location,
        count=count,
        size=size,
        like=tasks[numbers[0]].file,
        paths=(paths[0], paths[-1]),
    )


def _copy(
    reader: pa.RecordBatchReader, writer: pq.ParquetWriter, *, paths: pa.Array
) -> int:
    """Write the rows, their place in *paths* as a path; how many they are."""
    count = 0
    for batch in reader:
        named = pa.DictionaryArray.from_arrays(batch.column(0), paths)
        writer.write_batch(
            pa.RecordBatch.from_arrays([named, batch.column(1)], schema=_SCHEMA)
        )
        count += batch.num_rows
    return count


def _delete_file(
    location: str, *, count: int, size: int, like: DataFile, paths: tuple[str, str]
) -> DataFile:
    """The delete file as a manifest describes it, of the partition of the data file *like*."""
    # Bounds that are cut short would be read as an exact path.
    low, high = (to_bytes(StringType(), path) for path in paths)
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
