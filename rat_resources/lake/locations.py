"""Locations: where DuckDB finds the files that a catalog names, and what it writes there."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from duckdb import DuckDBPyConnection
from pyarrow import BufferReader
from pyarrow.parquet import FileMetaData, read_metadata
from pyiceberg.io import FileIO

LOCAL_SCHEMES = ("file://", "file:")


def duckdb_path(location: str) -> str:
    """The file or folder at *location* as DuckDB spells it: local paths carry no scheme."""
    for scheme in LOCAL_SCHEMES:
        if location.startswith(scheme):
            return location.removeprefix(scheme)
    return location


def is_local(location: str) -> bool:
    """Whether the file or folder at *location* is on this machine."""
    return "://" not in duckdb_path(location)


def is_reachable(connection: DuckDBPyConnection, location: str) -> bool:
    """Whether DuckDB itself can read and write what is at *location*; from now on it may."""
    if is_local(location):
        return True
    # Nothing of it is loaded where all files are local.
    from rat_resources.lake import s3_files  # noqa: PLC0415

    return s3_files.let_in(connection)


@contextmanager
def writable(connection: DuckDBPyConnection, location: str) -> Iterator[str]:
    """The folder at *location* as DuckDB can write to it.

    Where DuckDB cannot reach it, that is a local folder, whose files are put there afterwards.
    """
    if is_local(location):
        path = Path(duckdb_path(location))
        path.mkdir(parents=True, exist_ok=True)
        yield str(path)
    elif is_reachable(connection, location):
        yield location
    else:
        from rat_resources.lake import s3_files  # noqa: PLC0415

        spill = connection.execute("SELECT current_setting('temp_directory')")
        parent = Path(spill.fetchall()[0][0] or gettempdir())
        # DuckDB removes what is empty.
        parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=parent, prefix="rat-write-") as folder:
            yield folder
            for file in sorted(Path(folder).rglob("*.parquet")):
                there = f"{location}/{file.relative_to(folder).as_posix()}"
                s3_files.upload(file, location=there)


def remove_files(location: str, *, start: str) -> None:
    """Remove the files at *location* and below it whose names begin so."""
    if is_local(location):
        for file in Path(duckdb_path(location)).rglob(f"{start}*"):
            file.unlink(missing_ok=True)
        return
    from rat_resources.lake import s3_files  # noqa: PLC0415

    s3_files.remove(location, start=start)


def read_footer(location: str, *, io: FileIO) -> tuple[FileMetaData, int]:
    """The footer of a Parquet file, and the size of the file."""
    if is_local(location):
        source = io.new_input(location)
        with source.open() as stream:
            return read_metadata(stream), len(source)
    from rat_resources.lake import s3_files  # noqa: PLC0415

    tail, size = s3_files.read_tail(location)
    return read_metadata(BufferReader(tail)), size
