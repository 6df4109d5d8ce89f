"""A folder tree of pipelines and zone descriptions, read whole before anything is published.

`{ns}/pipelines/{layer}/{name}/…`, `{ns}/landing/{zone}.yaml`, `{ns}/alerts/{name}.yaml` and
`{ns}/retention.yaml`; a checkout and the store look the same. What the files mean is
`rat_resources.specs`, and `rat_resources.alerts.documents` for alerts.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from rat_resources.alerts.documents import AlertDocument, read_alert, with_code
from rat_resources.annotations import unknown_key
from rat_resources.errors import Problem
from rat_resources.names import (
    LAYERS,
    NAME_RULE,
    TableName,
    as_name,
    is_name,
    nearest,
)
from rat_resources.retention import namespace_key, read_namespace
from rat_resources.specs import PipelineSource
from rat_resources.store import walk
from rat_resources.values import (
    Located,
    UnfitError,
    flag,
    is_mapping,
    read_yaml,
    text,
    unique_entries,
)


@dataclass(frozen=True)
class ZoneDescription:
    """What `{ns}/landing/{zone}.yaml` says."""

    namespace: str
    name: str
    path: str
    content: str
    description: str = ""
    owner: str = ""
    expected_schema: str = ""
    expected_columns: dict[str, str] | None = None
    archive: bool = False
    auto_purge: bool = False


@dataclass(frozen=True)
class Tree:
    """What a folder tree holds, and what in it cannot be read."""

    sources: tuple[PipelineSource, ...] = ()
    zones: tuple[ZoneDescription, ...] = ()
    retentions: tuple[tuple[str, str], ...] = ()  # a key of the store, and its content
    problems: tuple[Problem, ...] = ()
    alerts: tuple[AlertDocument, ...] = ()


def read_tree(root: Path) -> Tree:
    """Read every pipeline and zone description below *root*; everything that is wrong, at once."""
    try:
        return read_whole(root)
    except PermissionError as error:
        # Part of a tree is no tree: what cannot be seen might be a test.
        what = "this folder cannot be read: you are not allowed to"
        path = shown(Path(error.filename or root))
        return Tree(problems=(Problem(path, 1, what, f"chmod -R u+rX {path}"),))


def read_whole(root: Path) -> Tree:
    """The tree; PermissionError where some of it cannot be seen."""
    if not root.is_dir():
        fix = "name the folder that holds {namespace}/pipelines/{layer}/{name}/pipeline.sql"
        return Tree(problems=(Problem(shown(root), 1, "there is no such folder", fix),))
    problems: list[Problem] = []
    sources = list(read_pipelines(root, problems))
    zones = list(read_zones(root, problems))
    retentions = list(read_retentions(root, problems))
    alerts = list(read_alerts(root, problems))
    if not sources and not alerts and not problems:
        problems.append(no_pipeline(root))
    return Tree(
        tuple(sources), tuple(zones), tuple(retentions), tuple(problems), tuple(alerts)
    )


PIPELINES = "*/pipelines/*/*/pipeline.*"


def no_pipeline(root: Path) -> Problem:
    """The problem of a folder without pipelines, with the one near it that has some."""
    near = [*root.resolve().parents[:4], *subfolders(root)]
    found = next((each for each in near if any(each.glob(PIPELINES))), None)
    fix = (
        f"did you mean rat publish {shown(found)}?"
        if found
        else "publish the folder that holds {namespace}/pipelines/{layer}/{name}/pipeline.sql"
    )
    return Problem(shown(root), 1, "there is no pipeline here", fix)


def shown(path: Path) -> str:
    """*path* as people in the current folder would write it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def read_pipelines(root: Path, problems: list[Problem]) -> Iterator[PipelineSource]:
    """The pipelines of the tree, in order of name."""
    for folder in subfolders(root):
        for layer in subfolders(folder / "pipelines"):
            if layer.name not in LAYERS:
                guess = nearest(layer.name, LAYERS)
                fix = (
                    f"did you mean {guess}?"
                    if guess
                    else f"layers are {', '.join(LAYERS)}"
                )
                problems.append(
                    Problem(shown(layer), 1, f"{layer.name} is no layer", fix)
                )
                continue
            for pipeline in subfolders(layer):
                files = read_files(pipeline, root=root, problems=problems)
                if files is None:
                    continue
                bad = [
                    part for part in (folder.name, pipeline.name) if not is_name(part)
                ]
                problems += [
                    bad_name(pipeline if name == pipeline.name else folder, name)
                    for name in bad
                ]
                if not bad:
                    table = TableName(folder.name, layer.name, pipeline.name)
                    yield PipelineSource(table, files, shown(pipeline))


def subfolders(folder: Path) -> list[Path]:
    """The folders in *folder* that are nobody's own business, in order."""
    if not folder.is_dir():
        return []
    return sorted(
        each for each in folder.iterdir() if each.is_dir() and each.name[0] not in "._"
    )


def bad_name(folder: Path, name: str) -> Problem:
    """The problem of a folder whose name is no name."""
    guess = as_name(name)
    fix = f"rename it to {guess}; {NAME_RULE}" if guess else NAME_RULE
    return Problem(shown(folder), 1, f"{name!r} is no name", fix)


def read_files(
    folder: Path, *, root: Path, problems: list[Problem]
) -> dict[str, str] | None:
    """The files of one pipeline by their path inside it; None when there are none."""
    paths = sorted(walk(folder))
    files = {}
    for link in sorted(folder.rglob("*")):
        if link.is_symlink() and link.is_dir():
            what = "this is a symbolic link to a folder, and nobody reads what is in it"
            problems.append(
                Problem(shown(link), 1, what, "replace it by the folder itself")
            )
    for path in paths:
        if not path.resolve().is_relative_to(root.resolve()):
            problems.append(leading_out(path))
        elif (content := read_text(path, problems)) is not None:
            files[path.relative_to(folder).as_posix()] = content
    return files if paths else None


def read_text(path: Path, problems: list[Problem]) -> str | None:
    """The text of a file; None, and a problem, when it is no text."""
    try:
        content = path.read_bytes()
        decoded = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        problems.append(
            Problem(shown(path), line, "this is no UTF-8 text", "save it as UTF-8")
        )
    except OSError as error:
        what = f"this file cannot be read: {error.strerror}"
        fix = f"check its permissions: ls -l {shown(path)}"
        problems.append(Problem(shown(path), 1, what, fix))
    else:
        if "\0" not in decoded:
            return decoded
        line = decoded[: decoded.index("\0")].count("\n") + 1
        problems.append(
            Problem(shown(path), line, "this is no text", "remove the zero byte")
        )
    return None


def read_retentions(root: Path, problems: list[Problem]) -> Iterator[tuple[str, str]]:
    """What the tree says of how long the things of its namespaces are kept."""
    for folder in subfolders(root):
        path = root / namespace_key(folder.name)
        if path.is_file() and (content := read_text(path, problems)) is not None:
            read_namespace(content, path=shown(path), problems=problems)
            yield namespace_key(folder.name), content


# Zone descriptions.

ZONE_KEYS = ("description", "owner", "expected_schema", "archive", "auto_purge")


def read_zones(root: Path, problems: list[Problem]) -> Iterator[ZoneDescription]:
    """The zone descriptions of the tree."""
    for path, content in read_named(root, "landing", problems=problems):
        namespace = path.parent.parent.name
        yield read_zone(content, path=path, namespace=namespace, problems=problems)


def read_alerts(root: Path, problems: list[Problem]) -> Iterator[AlertDocument]:
    """The alerts of the tree."""
    for path, content in read_named(root, "alerts", problems=problems):
        found = read_alert(
            content,
            path=shown(path),
            namespace=path.parent.parent.name,
            name=path.stem,
            problems=problems,
        )
        if found is None:
            continue
        code = root / found.code_key if found.code_key else None
        if code is None or not code.is_file():
            yield found
        elif not code.resolve().is_relative_to(root.resolve()):
            problems.append(leading_out(code))
        elif (text_of := read_text(code, problems)) is not None:
            yield with_code(found, text_of, problems=problems)


def leading_out(path: Path) -> Problem:
    """The problem of a link to somewhere else."""
    what = "this is a symbolic link that leads out of the folder"
    return Problem(shown(path), 1, what, "replace it by the file itself")


def read_named(
    root: Path, kind: str, *, problems: list[Problem]
) -> Iterator[tuple[Path, str]]:
    """The files `{ns}/{kind}/{name}.yaml` of the tree."""
    for folder in subfolders(root):
        inside = folder / kind
        for path in sorted(inside.iterdir()) if inside.is_dir() else []:
            if path.suffix == ".yml" and path.is_file():
                what, fix = "nobody reads this file", f"rename it to {path.stem}.yaml"
                problems.append(Problem(shown(path), 1, what, fix))
            if path.suffix != ".yaml" or not path.is_file():
                continue
            if not is_name(path.stem) or not is_name(folder.name):
                problems.append(bad_name(path, path.stem))
            elif not path.resolve().is_relative_to(root.resolve()):
                problems.append(leading_out(path))
            elif (content := read_text(path, problems)) is not None:
                yield path, content


def read_zone(
    content: str, *, path: Path, namespace: str, problems: list[Problem]
) -> ZoneDescription:
    """What one zone description says."""
    said: dict[str, Any] = {}
    for key, value in read_yaml(content, path=shown(path), problems=problems):
        if key not in ZONE_KEYS:
            problems.append(
                unknown_key(key, path=shown(path), line=value.line, known=ZONE_KEYS)
            )
            continue
        try:
            said |= read_zone_key(key, value)
        except UnfitError as unfit:
            line = unfit.line or value.line
            problems.append(
                Problem(shown(path), line, f"{key}: {unfit.what}", unfit.fix)
            )
    return ZoneDescription(namespace, path.stem, shown(path), content, **said)


def read_zone_key(key: str, value: Located) -> dict[str, Any]:
    """The fields that one key sets."""
    if key in ("archive", "auto_purge"):
        return {key: flag(value)}
    if key == "expected_schema" and not isinstance(value.value, str):
        columns = expected_columns(value)
        words = "\n".join(f"{name}: {kind}" for name, kind in columns.items())
        return {"expected_columns": columns, "expected_schema": words}
    return {key: text(value)}


def expected_columns(value: Located) -> dict[str, str]:
    """The columns of `expected_schema: {columns: {name: type}}`."""
    fix = "write columns: with one name: type a line, or a text"
    entries = list(entries_of(value))
    if [key for key, _ in entries] != ["columns"]:
        what = "it is neither a text nor columns"
        raise UnfitError(what, fix)
    columns = {}
    for name, kind in entries_of(entries[0][1]):
        columns[name] = column_type(kind)
    if not columns:
        what = "there are no columns"
        raise UnfitError(what, fix)
    return columns


def entries_of(value: Located) -> Iterator[tuple[str, Located]]:
    """The entries of a mapping, each key once."""
    if not is_mapping(value):
        what, fix = "this is no mapping", "write one name: type a line"
        raise UnfitError(what, fix, line=value.line)
    doubled: list[Problem] = []
    yield from unique_entries(value, problems=doubled, path="")
    for problem in doubled:
        raise UnfitError(problem.what, problem.fix, line=problem.line)


TYPE = re.compile(r'[\w\s(),\[\]"]+')


def column_type(value: Located) -> str:
    """A type that DuckDB knows."""
    kind = text(value)
    try:
        if TYPE.fullmatch(kind):
            duckdb.sqltype(kind)
            return kind
    except duckdb.Error:
        pass
    what = f"{kind!r} is no type that DuckDB knows"
    raise UnfitError(what, "write integer, varchar, timestamptz, …", line=value.line)
