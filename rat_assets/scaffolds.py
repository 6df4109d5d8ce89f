"""Scaffolds: a project of one's own, and a pipeline in it, made to be changed.

What a tree of pipelines may hold is `rat_resources.trees`. The files of a new project are in the
folder `template` beside this module; its dagster.yaml and workspace.yaml are the checkout's too.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from string import Template

from rat_resources.errors import AuthorError, OperatorError
from rat_resources.names import (
    LAYERS,
    NAME_RULE,
    TableName,
    as_name,
    is_name,
    nearest,
)
from rat_resources.settings import is_project
from rat_resources.specs import PYTHON, SQL, pipeline_folder

# A file whose name begins with a dot would mean something to the checkout.
HIDDEN = {"gitignore": ".gitignore"}


class ExistsError(AuthorError):
    """What shall be made is there already."""


def init_project(folder: Path) -> list[Path]:
    """Make *folder* a project; what was put into it. All of it or nothing."""
    refuse_nested(folder)
    with as_file(files("rat_assets") / "template") as template:
        names = sorted(each.name for each in template.iterdir())
        made = [folder / HIDDEN.get(name, name) for name in names]
        refuse_existing(made)
        with building(folder) as draft:
            for name, path in zip(names, made, strict=True):
                copy(template / name, draft / path.name)
    return made


def refuse_nested(folder: Path) -> None:
    """ExistsError inside of another project, where commands would find now the one, now the other."""
    for parent in folder.resolve().parents:
        if is_project(parent):
            message = f"{folder} would lie inside of the project {parent}"
            fix = "nothing was made; name a folder outside of it, or work in that one"
            raise ExistsError(message, fix=fix)


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder."""
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def refuse_existing(paths: Sequence[Path]) -> None:
    """ExistsError when any of *paths* is there, with the names of all that are."""
    there = [path for path in paths if path.exists() or path.is_symlink()]
    if there:
        names = ", ".join(str(path) for path in there)
        message = f"{names} {'exists' if len(there) == 1 else 'exist'} already"
        raise ExistsError(message, fix="nothing was made; name another one, or move it")


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """A draft folder whose entries appear in *folder* when the block ends well."""
    before = folder
    while not before.parent.exists():
        before = before.parent
    is_new = not before.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".rat-", dir=folder) as draft:
            yield Path(draft)
            for each in sorted(Path(draft).iterdir()):
                each.rename(folder / each.name)
    except BaseException as error:
        if is_new:
            shutil.rmtree(before, ignore_errors=True)
        if isinstance(error, OSError):
            message = f"{folder} cannot be written: {error.strerror or error}"
            fix = "check its permissions and its disk, or name another folder"
            raise OperatorError(message, fix=fix) from error
        raise


# A pipeline.


def read_name(text: str) -> TableName:
    """The name of a new pipeline; AuthorError says which part is wrong."""
    parts = text.split(".")
    if len(parts) != len(TableName.__annotations__):
        message = f"{text!r} is no name of a pipeline"
        raise AuthorError(message, fix="write namespace.layer.name, as shop.gold.sales")
    namespace, layer, name = parts
    probably = guess_name(namespace, layer, name)
    if layer not in LAYERS:
        fix = probably or f"layers are {', '.join(LAYERS)}"
        raise AuthorError(f"{layer!r} is no layer", fix=fix)
    for part in (namespace, name):
        if not is_name(part):
            fix = f"{NAME_RULE}: {probably}" if probably else NAME_RULE
            raise AuthorError(f"{part!r} is no name", fix=fix)
    return TableName(namespace, layer, name)


def guess_name(namespace: str, layer: str, name: str) -> str:
    """The question whether another name was meant, one that can be had; empty when there is none."""
    guesses = (as_name(namespace), nearest(layer.lower(), LAYERS), as_name(name))
    known = [guess for guess in guesses if guess]
    is_whole = len(known) == len(guesses)
    return f"did you mean {'.'.join(known)}?" if is_whole else ""


def new_pipeline(project: Path, table: TableName, *, python: bool) -> list[Path]:
    """Make the folder of a pipeline in the tree of *project*; its files."""
    folder = project / pipeline_folder(table)
    refuse_existing([folder])
    written = pipeline_files(table, source=find_source(project, table), python=python)
    with building(folder) as draft:
        for name, content in written.items():
            path = draft / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    return [folder / name for name in written]


def find_source(project: Path, table: TableName) -> TableName | None:
    """The table that a new pipeline shall read: the nearest of the layer below; None: files."""
    below = dict(zip(LAYERS[1:], LAYERS, strict=False)).get(table.layer)
    if below is None:
        return None
    there = sorted(
        each.name
        for each in (project / table.namespace / "pipelines" / below).glob("*")
        if each.is_dir() and is_name(each.name)
    )
    name = nearest(table.name, there) or next(iter(there), table.name)
    return TableName(table.namespace, below, name)


def pipeline_files(
    table: TableName, *, source: TableName | None, python: bool
) -> Mapping[str, str]:
    """The files of a new pipeline, by their path inside its folder."""
    code = {
        (True, False): FILES_SQL,
        (True, True): FILES_PYTHON,
        (False, False): TABLE_SQL,
        (False, True): TABLE_PYTHON,
    }[source is None, python]
    words = {
        "name": table.name,
        "ref": f"{source.layer}.{source.name}" if source else "",
    }
    texts = {
        PYTHON if python else SQL: code,
        "config.yaml": TABLE_CONFIG if source else FILES_CONFIG,
        "tests/quality/has_rows.sql": TEST,
    }
    return {name: Template(text).substitute(words) for name, text in texts.items()}


FILES_SQL = """\
SELECT
    *,
    '{{ run_started_at }}'::TIMESTAMPTZ AS loaded_at
FROM read_csv('{{ landing_zone('$name', new=true) }}/*.csv', header = true)
"""
FILES_PYTHON = """\
files = landing_zone('$name', new=True)
result = duckdb_conn.sql(f\"\"\"
    SELECT *, '{run_started_at}'::TIMESTAMPTZ AS loaded_at
    FROM read_csv('{files}/*.csv', header = true)
\"\"\")
"""
TABLE_SQL = """\
SELECT *
FROM {{ ref('$ref') }}
"""
TABLE_PYTHON = """\
rows = ref('$ref')
result = duckdb_conn.sql(f"SELECT * FROM {rows}")
"""
FILES_CONFIG = """\
description: The files of the landing zone $name, as they arrive
merge_strategy: append_only
triggers:
  - type: landing_zone_upload
    zone_name: $name
"""
TABLE_CONFIG = """\
description: What this table is, in a sentence
merge_strategy: full_refresh
"""
TEST = """\
-- @description: There is at least one row
-- @severity: error
-- @remediation: See what its inputs hold
SELECT 'no rows' AS problem
WHERE NOT EXISTS (SELECT 1 FROM {{ this }})
"""
