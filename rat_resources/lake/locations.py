"""Locations: where DuckDB finds the files that a catalog names."""

from pathlib import Path

LOCAL_SCHEMES = ("file://", "file:")


def duckdb_path(location: str) -> str:
    """The file or folder at *location* as DuckDB spells it: local paths carry no scheme."""
    for scheme in LOCAL_SCHEMES:
        if location.startswith(scheme):
            return location.removeprefix(scheme)
    return location


def make_folder(location: str) -> str:
    """The folder at *location*, made where folders need making, as DuckDB spells it."""
    path = duckdb_path(location)
    if "://" not in path:
        Path(path).mkdir(parents=True, exist_ok=True)
    return path


def remove_files(location: str, *, start: str) -> None:
    """Remove the files at *location* and below it whose names begin so, where they are local."""
    path = duckdb_path(location)
    if "://" not in path:
        for file in Path(path).rglob(f"{start}*"):
            file.unlink(missing_ok=True)
