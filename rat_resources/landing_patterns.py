"""Patterns: which files of a landing zone a query reads, by the paths that stand in it."""

import re
from collections.abc import Collection, Iterator
from pathlib import Path

import duckdb

from rat_resources.sql_tokens import tokens

TEXT = re.compile(r"[eE]?'(.*)'|(\$\w*\$)(.*)\2", re.DOTALL)


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
    here = [text for text in texts(sql) if str(folder) in text]
    if any(not text.startswith(f"{folder}/") for text in here):
        return None
    return [text for text in here if not text.endswith("/")] or None


def texts(sql: str) -> Iterator[str]:
    """The texts that stand in *sql*; an apostrophe in a comment or a name begins none."""
    for kind, token in tokens(sql):
        if kind == "code" and (text := TEXT.fullmatch(token)):
            yield text[3] or (text[1] or "").replace("''", "'")
