"""Patterns: which files of a landing zone a query reads, by the paths that stand in it."""

import re
from collections.abc import Collection
from pathlib import Path

import duckdb

TEXT = re.compile(r"'((?:''|[^'])*)'")


def find_unread(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    *,
    folder: Path,
    names: Collection[str],
) -> list[str]:
    """The files of *folder* that no path in *sql* matches; none where the paths do not tell."""
    paths = patterns(sql, folder=folder)
    if paths is None:
        return []
    found = {
        path
        for pattern in paths
        for (path,) in connection.execute(
            "SELECT file FROM glob(?)", [pattern]
        ).fetchall()
    }
    unread = [name for name in names if str(folder / name) not in found]
    # A path that is put together by the query itself matches nothing as it stands here.
    is_clear = all(re.search(r"[*?\[]", pattern) for pattern in paths)
    return unread if is_clear or len(unread) < len(names) else []


def patterns(sql: str, *, folder: Path) -> list[str] | None:
    """The paths below *folder* that stand in *sql*; None where it names the folder itself."""
    texts = [text.replace("''", "'") for text in TEXT.findall(sql)]
    here = [text for text in texts if str(folder) in text]
    if any(not text.startswith(f"{folder}/") for text in here):
        return None
    return [text for text in here if not text.endswith("/")] or None
