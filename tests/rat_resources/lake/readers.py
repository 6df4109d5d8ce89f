"""Other readers of a table: what they find must be what we find."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
from pyiceberg.table import Table

Rows = list[tuple[Any, ...]]


def by_pyiceberg(table: Table) -> Rows:
    """The rows that PyIceberg finds."""
    found = table.scan().to_arrow().to_pylist()
    return sorted((tuple(row.values()) for row in found), key=repr)


def by_duckdb(table: Table) -> Rows:
    """The rows that DuckDB's Iceberg extension finds."""
    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as connection:
        for name in ("avro", "iceberg"):
            connection.load_extension(str(extension(name)))
        connection.execute("SET TimeZone = 'UTC'")
        location = table.metadata_location.removeprefix("file://")
        rows = connection.execute("SELECT * FROM iceberg_scan(?)", [location])
        return sorted(rows.fetchall(), key=repr)


def extension(name: str) -> Path:
    """Where the wheel of an extension has it."""
    wheel = find_spec(f"duckdb_extension_{name}")
    assert wheel is not None
    assert wheel.origin is not None
    folder = Path(wheel.origin).parent / "extensions"
    return next(folder.rglob(f"{name}.duckdb_extension"))
