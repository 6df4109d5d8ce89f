"""Hand-written assets: a Python function beside the pipelines, for what SQL cannot do.

What its decorator says is read as a pipeline's folder would be, and it runs through the same phases:
branch, pinned inputs, strategy, tests, publication. Its versions are `rat_resources.hand_written`.
"""

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property
from inspect import getdoc, getsource, getsourcefile, getsourcelines
from pathlib import Path

import duckdb
import yaml
from duckdb import DuckDBPyConnection, DuckDBPyRelation

from rat_assets.scripts import Printed, ScriptContext, select_result
from rat_resources import releases
from rat_resources.configuration import Place
from rat_resources.errors import AssetError, NotFoundError, Problem, QueryError
from rat_resources.lake.sql import quote
from rat_resources.mentions import Mentions
from rat_resources.names import PLATFORM, TableName, nearest
from rat_resources.specs import (
    CONFIG,
    EXCERPT_BYTES,
    PYTHON,
    TESTS,
    Parsed,
    PipelineSource,
    parse_pipeline,
    truncate,
)
from rat_resources.trees import shown


@dataclass(frozen=True)
class PinnedLake(ScriptContext):
    """The lake as one run sees it: published tables, at the commit that the run is pinned to."""

    connection: DuckDBPyConnection  # where `read` reads; SQL on it sees the same tables
    reads: tuple[TableName, ...]
    exists: bool  # whether the asset's own table is published

    def read(self, name: str) -> DuckDBPyRelation:
        """The rows of a table that the asset *reads*; `.arrow()`, `.df()` and `.pl()` convert them."""
        try:
            table = TableName.parse(name, namespace=self.table.namespace)
        except ValueError as error:
            raise QueryError(str(error)) from error
        if table not in self.reads:
            # Another layer's table of the same name is no slip of the pen.
            guess = nearest(str(table), map(str, self.reads), cutoff=0.9)
            fix = f"add {name!r} to reads"
            probably = f"did you mean {guess}? Or {fix}" if guess else fix
            raise NotFoundError(f"{self.table} does not read {table}", fix=probably)
        return self.connection.sql(f"FROM {quote(str(table))}")

    @property
    def this(self) -> DuckDBPyRelation | None:
        """The asset's own rows as they are published, if they are."""
        if not self.exists:
            return None
        return self.connection.sql(f"FROM {quote(str(self.table))}")


Body = Callable[[PinnedLake], object]
"""Returns the rows to write: an Arrow table or reader, a relation, a pandas or polars frame."""


@dataclass(frozen=True)
class LakeAsset:
    """A table that a function of somebody's own makes."""

    table: TableName
    body: Body
    reads: tuple[str, ...]
    tests: Mapping[str, str]  # name → query for offenders, with its header
    config: Mapping[str, object]  # the keys of config.yaml

    @property
    def file(self) -> Path:
        """The module that it is written in."""
        return Path(getsourcefile(self.body) or "")

    @property
    def place(self) -> str:
        """Its file and function, as people name them."""
        # Without its folder: the same wherever the process that runs it stands.
        return f"{self.file.name}:{getattr(self.body, '__name__', 'body')}"

    @cached_property
    def parsed(self) -> Parsed:
        """All that it says, as of a pipeline; AssetError lists what is wrong with it."""
        mentions, problems = self.read_mentions()
        source = PipelineSource(self.table, self.files, folder=self.place)
        parsed = parse_pipeline(source, mentions=mentions, hand_written=self.place)
        if problems or parsed.problems:
            raise AssetError([*problems, *map(self.at_function, parsed.problems)])
        # Its module may be long, and Dagster shows the beginning.
        excerpt = truncate(getsource(self.body), EXCERPT_BYTES)
        function = Place(shown(self.file), self.line)
        refs = dict.fromkeys(parsed.ref_places, function)
        spec = replace(parsed.spec, excerpt=excerpt)
        return replace(parsed, spec=spec, ref_places=refs, function=function)

    @property
    def files(self) -> dict[str, str]:
        """What a folder of it would hold: its module, its keys, its tests."""
        config = {"description": getdoc(self.body) or "", **self.config}
        return {
            # The whole module: what the function calls makes the table too.
            PYTHON: self.file.read_text(),
            CONFIG: yaml.safe_dump(config, allow_unicode=True),
            **{f"{TESTS}{name}.sql": sql for name, sql in self.tests.items()},
        }

    def read_mentions(self) -> tuple[Mentions, list[Problem]]:
        """The tables that it reads, and what is wrong with their names."""
        tables, problems = [], []
        for name in self.reads:
            try:
                tables.append(TableName.parse(name, namespace=self.table.namespace))
            except ValueError as error:
                what, _, fix = str(error).partition(": ")
                problems.append(self.problem(f"reads: {what}", fix))
        return Mentions(refs=tuple((table, self.line) for table in tables)), problems

    @property
    def line(self) -> int:
        """Where it begins in its file."""
        return getsourcelines(self.body)[1]

    def problem(self, what: str, fix: str) -> Problem:
        """A problem at the function."""
        return Problem(shown(self.file), self.line, what, fix)

    def at_function(self, problem: Problem) -> Problem:
        """A problem of a part of it, where its author finds it."""
        part = problem.path.removeprefix(f"{self.place}/")
        where = part.removeprefix(TESTS) if part.startswith(TESTS) else ""
        said = f"{where}:{problem.line}: {problem.what}" if where else problem.what
        return self.problem(said, problem.fix)


def lake_asset(
    name: str,
    *,
    reads: Sequence[str] = (),
    tests: Mapping[str, str] | Path | None = None,
    **config: object,
) -> Callable[[Body], LakeAsset]:
    """Make a function the asset that writes the table *name*, `namespace.layer.name`.

    *reads* are the tables that it may read, *tests* queries for offenders by name or a folder of
    them, *config* the keys of a pipeline's config.yaml.
    """
    table = TableName.parse(name)
    queries = read_tests(tests) if isinstance(tests, Path) else tests or {}

    def decorate(body: Body) -> LakeAsset:
        asset = LakeAsset(table, body, tuple(reads), queries, config)
        if table.namespace == PLATFORM:
            raise AssetError([asset.problem(releases.TAKEN, releases.ELSEWHERE)])
        return asset

    return decorate


def read_tests(folder: Path) -> dict[str, str]:
    """The queries of a folder, by their names; NotFoundError when there are none."""
    found = {path.stem: path.read_text() for path in sorted(folder.glob("*.sql"))}
    if not found:
        message = f"{shown(folder)} holds no tests"
        raise NotFoundError(message, fix="put a query for offenders there: NAME.sql")
    return found


@contextmanager
def told_at(body: Body | None) -> Iterator[None]:
    """Tell of what cannot be found where the function begins that reads it; None: it is no function."""
    try:
        yield
    except NotFoundError as error:
        if body is None:
            raise
        raise NotFoundError(
            f"{where_is(body)}: {error.message}", fix=error.fix
        ) from error


def where_is(body: Body) -> str:
    """The line at which a function begins, as people name it."""
    return f"{shown(Path(getsourcefile(body) or ''))}:{getsourcelines(body)[1]}"


def run_body(asset_body: Body, *, lake: PinnedLake) -> str:
    """Call the function and give the query that selects its rows; QueryError names its own line."""
    file = getsourcefile(asset_body) or ""
    printed = Printed(lake.log)
    where = where_is(asset_body)
    try:
        with redirect_stdout(printed):
            rows = asset_body(lake)
        return select_rows(rows, where=where, connection=lake.connection)
    except duckdb.InterruptException:
        raise
    except (QueryError, NotFoundError) as error:
        if error.message.startswith(where):
            raise
        message = f"{own_line(error, file) or where}: {error.message}"
        raise type(error)(message, fix=error.fix) from error
    except (Exception, SystemExit) as error:
        at = own_line(error, file) or where
        raise QueryError(f"{at}: {type(error).__name__}: {error}") from error
    finally:
        printed.flush()


def own_line(error: BaseException, file: str) -> str:
    """The last line of *file* that *error* came through, as people name it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame.lineno for frame in frames if frame.filename == file]
    return f"{shown(Path(file))}:{own[-1]}" if own else ""


def select_rows(rows: object, *, where: str, connection: DuckDBPyConnection) -> str:
    """The query that selects what the function returned."""
    if rows is None:
        message = f"{where}: the function returned nothing"
        raise QueryError(message, fix="return a table, frame or relation")
    return select_result(rows, where=where, connection=connection)


# Finding those of a project without building everything else.

_found: ContextVar[list[LakeAsset] | None] = ContextVar("rat_found", default=None)


@contextmanager
def collecting() -> Iterator[list[LakeAsset]]:
    """While the block runs, definitions are not built: their hand-written assets are collected."""
    found: list[LakeAsset] = []
    token = _found.set(found)
    try:
        yield found
    finally:
        _found.reset(token)


def collect(assets: Sequence[LakeAsset]) -> bool:
    """Whether somebody only wants to know the assets, who has them now."""
    found = _found.get()
    if found is None:
        return False
    found.extend(assets)
    return True
