"""Tables of Iceberg's other formats: an older one is brought to ours, a later one is read and left alone."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pytest
from duckdb import DuckDBPyConnection
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table import FileScanTask, Table
from pyiceberg.table.metadata import TableMetadataUtil
from pyiceberg.typedef import Record
from pyiceberg.types import IntegerType, NestedField, StringType
from pyroaring import BitMap

from rat_resources.errors import StoreError
from rat_resources.lake.planning import plan
from rat_resources.lake.reading import placed, select_rows
from rat_resources.lake.target import open_target
from rat_resources.maintenance import compacting
from rat_resources.maintenance.plans import Bin, Layout, by_partition
from tests.rat_resources.lake.readers import by_duckdb, by_pyiceberg
from tests.rat_resources.lake.tables import (
    NAME,
    load,
    make_catalog,
    make_config,
    make_connection,
    read,
    values,
    write,
)

APPEND = make_config("append_only")
MARK = make_config("incremental", unique_key=["id"], write_mode="merge_on_read")
COLUMNS = Schema(NestedField(1, "id", IntegerType()), NestedField(2, "v", StringType()))


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return make_catalog(tmp_path)


@pytest.fixture
def connection() -> DuckDBPyConnection:
    return make_connection()


@pytest.fixture
def old(catalog: Catalog) -> Catalog:
    """A catalog with a table of format 1, which another engine wrote in two files."""
    for outer in (NAME.key[:1], NAME.key[:2]):
        catalog.create_namespace(outer)
    table = catalog.create_table(NAME.key, COLUMNS, properties={"format-version": "1"})
    for ids in ([1, 2], [3, 4, 5]):
        rows = {"id": pa.array(ids, pa.int32()), "v": [str(n) for n in ids]}
        table.append(pa.table(rows))
    return catalog


@pytest.mark.parametrize(
    ("config", "rows"),
    [
        (APPEND, [(1, "1"), (2, "2"), (3, "3"), (3, "x"), (4, "4"), (5, "5")]),
        (MARK, [(1, "1"), (2, "2"), (3, "x"), (4, "4"), (5, "5")]),
        (make_config(), [(3, "x")]),
    ],
    ids=["added", "marked", "replaced"],
)
def test_a_table_of_an_older_format_keeps_its_rows_when_it_is_written(
    connection: DuckDBPyConnection,
    old: Catalog,
    config: object,
    rows: list[tuple[int, str]],
) -> None:
    write(connection, old, values([(3, "x")], "id, v"), config=config)  # type: ignore[arg-type]

    table = load(old)
    assert table.metadata.format_version == 2
    assert read(connection, old) == rows
    assert sorted(by_pyiceberg(table)) == sorted(by_duckdb(table)) == rows


def test_a_table_of_an_older_format_is_compacted(
    connection: DuckDBPyConnection, old: Catalog
) -> None:
    table = load(old)
    before = read(connection, old)

    (files,) = by_partition(table).values()
    done = compacting.rewrite(connection, table, Bin(tuple(files), ""), layout=Layout())
    after = compacting.commit(table, [done])

    assert len(plan(after.metadata, io=after.io)) == 1
    assert read(connection, old) == before == sorted(by_duckdb(after))


def test_a_batch_that_changes_nothing_leaves_the_older_format(
    connection: DuckDBPyConnection, old: Catalog
) -> None:
    location = load(old).metadata_location

    written = write(connection, old, values([(3, "3")], "id, v"), config=MARK)

    assert not written.changed
    assert load(old).metadata_location == location


def test_a_table_of_a_later_format_is_refused_to_whoever_writes(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(connection, catalog, values([(1, "a")], "id, v"))
    table = load(catalog)
    said = json.loads(table.metadata.model_dump_json())
    later = {**said, "format-version": 3, "next-row-id": 0}
    table.metadata = TableMetadataUtil.parse_obj(later)

    with pytest.raises(StoreError, match=r"shop.silver.orders has Iceberg's format 3"):
        open_target(table)


def test_rows_that_deletion_vectors_name_are_gone(
    connection: DuckDBPyConnection, catalog: Catalog, tmp_path: Path
) -> None:
    for start in (0, 4):
        rows = [(n, "x") for n in range(start, start + 4)]
        write(connection, catalog, values(rows, "id, v"), config=APPEND)
    table = load(catalog)
    first, second = plan(table.metadata, io=table.io)
    # Other engines write those of several files to one, and each names all of a partition.
    both = puffin(tmp_path, {first.file.file_path: [1], second.file.file_path: [0, 3]})
    tasks = {n: FileScanTask(t.file, both) for n, t in enumerate((first, second))}

    query = select_all(connection, table, tasks)

    assert not placed(connection, tasks, metadata=table.metadata, io=table.io)
    assert connection.execute(f"SELECT id FROM ({query})").fetchall() == [
        (0,),
        (2,),
        (3,),
        (5,),
        (6,),
    ]


def select_all(
    connection: DuckDBPyConnection, table: Table, tasks: Mapping[int, FileScanTask]
) -> str:
    return select_rows(
        connection,
        tasks,
        schema=table.schema(),
        metadata=table.metadata,
        io=table.io,
    )


def puffin(folder: Path, dead: Mapping[str, Iterable[int]]) -> set[DataFile]:
    """A file with a deletion vector for each data file, as manifests of format 3 name it."""
    path = folder / f"{uuid4()}.puffin"
    content, blobs = b"PFA1", []
    for name, places in dead.items():
        bits = BitMap(places).serialize()
        vector = b"\xd1\xd3\x39\x64" + (1).to_bytes(8, "little") + bytes(4) + bits
        blob = len(vector).to_bytes(4, "big") + vector + bytes(4)
        blobs.append(
            {
                "type": "deletion-vector-v1",
                "fields": [],
                "snapshot-id": -1,
                "sequence-number": -1,
                "offset": len(content),
                "length": len(blob),
                "properties": {"referenced-data-file": name},
            }
        )
        content += blob
    footer = json.dumps({"blobs": blobs}).encode()
    content += b"PFA1" + footer + len(footer).to_bytes(4, "little") + bytes(4) + b"PFA1"
    path.write_bytes(content)
    return {
        DataFile.from_args(
            content=DataFileContent.POSITION_DELETES,
            file_path=str(path),
            file_format=FileFormat.PUFFIN,
            partition=Record(),
            record_count=len(list(places)),
            file_size_in_bytes=len(content),
        )
        for places in dead.values()
    }
