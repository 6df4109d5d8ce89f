"""Alert code: the queries and functions that alerts bring along, run where they can do no harm.

A query only reads. A function is a pinned one: of the file `{ns}/alerts/{module}.py` in the store, or
of a module that is installed, whose SHA-256 the alert names. It is called with an `AlertLake`, and
what it returns are the rows that are wrong: a relation, an Arrow table, a frame or dicts; or True.
"""

import ctypes
import importlib.util
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection, DuckDBPyRelation

from rat_assets.findings import MOST_ROW_EVENTS, TIME_LIMIT, limited
from rat_assets.inputs import Inputs
from rat_assets.samples import mask, narrow
from rat_assets.scripts import as_table
from rat_resources import graph, releases
from rat_resources.alerts.conditions import listed
from rat_resources.alerts.definitions import Definition
from rat_resources.alerts.events import MOST_ROWS
from rat_resources.alerts.matches import COPIED, Looked, Match, identity_of, key_of
from rat_resources.columns import personal_names
from rat_resources.errors import NotFoundError, QueryError, RatError
from rat_resources.lake.complaints import complaint
from rat_resources.lake.rows import as_json
from rat_resources.lake.sql import quote
from rat_resources.names import TableName
from rat_resources.platform import Platform
from rat_resources.queries import answering
from rat_resources.templates import RenderContext, render

KINDS = ("sql", "udf")
# Where a query or function is about no table, templates of its namespace are read as of this one.
NOWHERE = ("gold", "alerts")
TICK_LIMIT = 5.0  # seconds, of a sensor's tick that has several to run


def ask_main(
    whole: Platform, definitions: Sequence[Definition], commit: str
) -> list[Looked]:
    """What the code of definitions finds in main as it was at a commit."""
    with whole.metadata.transaction() as tx:
        release = releases.current(tx) or 0
    inputs = Inputs(whole, release, f"@{commit}", datetime.now(UTC))
    return Desk(whole, inputs, time_limit=TICK_LIMIT).look_at_all(definitions)


@dataclass(frozen=True)
class Desk:
    """Where alert code reads: everything at one place, the published table as its run made it."""

    whole: Platform
    inputs: Inputs
    time_limit: float = TIME_LIMIT

    def look(self, definition: Definition) -> Looked:
        """What the code of a definition finds."""
        try:
            if definition.kind == "sql":
                return self.ask(definition)
            return self.call(definition)
        except duckdb.InterruptException:
            raise
        except duckdb.Error as error:
            return Looked(definition, trouble=complaint(error))
        except RatError as error:
            return Looked(definition, trouble=error)

    def look_at_all(self, definitions: Sequence[Definition]) -> list[Looked]:
        """What the code of each definition finds, whatever it meets."""
        return [self.look(each) for each in definitions]

    # Queries.

    def ask(self, definition: Definition) -> Looked:
        """The rows that the query of a definition returns."""
        sql = self.render(definition)
        read: set[TableName] = set()

        def register(
            connection: DuckDBPyConnection, tables: Collection[TableName]
        ) -> None:
            read.update(tables)
            self.inputs.resolve(tables)
            self.inputs.register(connection)

        with (
            self.whole.lake.connect() as connection,
            limited(connection, seconds=self.time_limit),
            answering(
                connection,
                sql,
                known=self.known,
                register=register,
                readable=self.whole.settings.warehouse,
            ) as answer,
        ):
            columns, rows, count = answer.columns, [], 0
            for row in answer.rows():
                count += 1
                if count <= MOST_ROW_EVENTS:
                    rows.append(dict(zip(columns, row, strict=True)))
        masked = self.personal(read)
        return found(definition, rows, count=count, masked=masked, what="its query")

    def render(self, definition: Definition) -> str:
        """The query of a definition."""
        table = definition.table or TableName(definition.namespace, *NOWHERE)
        context = RenderContext(table, run_started_at=self.inputs.run_started_at)
        path = f"{definition.namespace}/alerts/{definition.name}.yaml"
        return render(str(definition.condition["query"]), path=path, context=context)

    @property
    def known(self) -> set[TableName]:
        """The tables and views that can be read."""
        with self.whole.metadata.transaction() as tx:
            outlines = graph.outlines(tx, release=self.inputs.release)
        views = {each.table for each in outlines if each.is_view}
        there = self.whole.lake.published(at=self.inputs.at)
        return views | {*there, *self.inputs.tables}

    def personal(self, tables: Collection[TableName]) -> frozenset[str]:
        """The columns that are personal in any of *tables*, by their names."""
        with self.whole.metadata.transaction() as tx:
            read = releases.load(tx, release=self.inputs.release, only=tables)
        return frozenset[str]().union(
            *(personal_names(each.spec.config.columns) for each in read)
        )

    # Functions.

    def call(self, definition: Definition) -> Looked:
        """The rows that the function of a definition returns."""
        function = load(self.whole, definition)
        with self.whole.lake.connect() as connection:
            lake = AlertLake(connection, self.inputs, definition.table)
            rows, count = bounded(
                lambda: collect(function(lake)), connection, seconds=self.time_limit
            )
        masked = self.personal(lake.read)
        return found(definition, rows, count=count, masked=masked, what="its function")


class AlertLake:
    """What the function of an alert is called with."""

    def __init__(
        self, connection: DuckDBPyConnection, inputs: Inputs, table: TableName | None
    ) -> None:
        self.connection = connection
        self.read: set[TableName] = set()
        self._inputs = inputs
        self._table = table

    @property
    def table(self) -> DuckDBPyRelation | None:
        """The rows of the table that the alert is about, as they are being published."""
        return None if self._table is None else self.ref(str(self._table))

    def ref(self, name: str) -> DuckDBPyRelation:
        """The rows of a table or view, by `ns.layer.name`, or `layer.name` of the same namespace."""
        namespace = self._table.namespace if self._table else None
        try:
            table = TableName.parse(name, namespace=namespace)
        except ValueError as error:
            raise NotFoundError(str(error)) from error
        if table not in self.read:
            self._inputs.resolve([table])
            self._inputs.register(self.connection)
            self.read.add(table)
        return self.connection.sql(f"FROM {quote(str(table))}")


Function = Callable[[AlertLake], Any]
Rows = list[dict[str, Any]]
Returned = tuple[Rows, int]  # the first rows, and how many there were


def load(whole: Platform, definition: Definition) -> Function:
    """The function of a definition; QueryError when its file is not the one that was pinned."""
    said = definition.condition
    module, _, name = str(said.get("entrypoint")).partition(":")
    path, source = find_source(whole, module, namespace=definition.namespace)
    pinned = str(said.get("sha256")).removeprefix("sha256:")
    actual = sha256(source).hexdigest()
    if actual != pinned:
        raise QueryError(
            f"{path} is not the file that the alert names: its sha256 is {actual}",
            fix="look at what changed, then write that into the alert",
        )
    names: dict[str, Any] = {"__name__": f"rat_alert.{module}", "__file__": path}
    # Not imported: what another process cached under the name may be another version of it.
    exec(compile(source, path, "exec"), names)  # noqa: S102 - the author's code, whose hash was pinned
    function = names.get(name)
    if not callable(function):
        message = f"{path} has no function {name}"
        raise NotFoundError(message, fix="correct the alert's entrypoint")
    return function  # type: ignore[no-any-return]


def find_source(whole: Platform, module: str, *, namespace: str) -> tuple[str, bytes]:
    """Where a module is and what it says: in the store, else among those that are installed."""
    key = f"{namespace}/alerts/{module.replace('.', '/')}.py"
    if whole.store.exists(key):
        return key, whole.store.read(key)
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        message = f"there is no module {module}"
        raise NotFoundError(message, fix=f"put it at {key}, or install it")
    return spec.origin, Path(spec.origin).read_bytes()


def bounded(
    work: Callable[[], Returned], connection: DuckDBPyConnection, *, seconds: float
) -> Returned:
    """What *work* gives, in a thread that is left alone when it takes too long; QueryError then."""
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["result"] = work()
        except BaseException as error:  # noqa: BLE001 - it is raised where it was asked for
            outcome["error"] = error

    thread = threading.Thread(target=run, name="rat-alert", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        stop(thread, connection)
        message = f"its function took more than {seconds:g} s"
        raise QueryError(message, fix="let it do less")
    error = outcome.get("error")
    if isinstance(error, RatError | duckdb.Error):
        raise error
    if error is not None:
        message = f"its function failed: {type(error).__name__}: {error}"
        raise QueryError(message, fix="correct it") from error
    result: Returned = outcome["result"]
    return result


def stop(thread: threading.Thread, connection: DuckDBPyConnection) -> None:
    """Ask a thread to end, whatever it does; one that sleeps ends when it wakes."""
    connection.interrupt()
    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
        )
    thread.join(1)


def collect(result: object) -> Returned:
    """The rows that a function returned, and how many there were."""
    if result is None or result is False:
        return [], 0
    if result is True:
        return [], 1
    if isinstance(result, DuckDBPyRelation):
        names, rows = result.columns, result.fetchall()
        found = [dict(zip(names, row, strict=True)) for row in rows[:MOST_ROW_EVENTS]]
        return found, len(rows)
    if hasattr(result, "__arrow_c_stream__"):
        result = as_table(result).to_pylist()
    if isinstance(result, Sequence) and all(isinstance(row, Mapping) for row in result):
        return [dict(row) for row in result[:MOST_ROW_EVENTS]], len(result)
    message = f"its function returned a {type(result).__name__}"
    raise QueryError(message, fix="return rows, True, or nothing")


def found(
    definition: Definition,
    rows: Rows,
    *,
    count: int,
    masked: frozenset[str],
    what: str,
) -> Looked:
    """What follows from the rows that code returned."""
    if not count:
        return Looked(definition)
    if definition.condition.get("per") == "row" and rows:
        keys = [str(each) for each in listed(definition.condition.get("key"))]
        missing = [each for each in keys if each not in rows[0]]
        if missing:
            message = f"{what} returns no column {missing[0]!r}"
            raise QueryError(message, fix=f"use a key of {', '.join(rows[0])}")
        each_row = [one_row(row, keys=keys, masked=masked, what=what) for row in rows]
        distinct = {(each.key, each.identity): each for each in each_row}
        return Looked(definition, [*distinct.values()], more=count - len(rows))
    returned = "1 row" if count == 1 else f"{count:,} rows"
    where = f" about {definition.table}" if definition.table else ""
    match = Match(
        f"{what} returned {returned}{where}",
        figures={"rows": count},
        rows=public(rows[:MOST_ROWS], masked=masked),
        rows_matching=count,
    )
    if count == 1 and rows:
        copied = {name: rows[0][name] for name in COPIED if name in rows[0]}
        match = replace(match, copied=copied, identity=identity_of(copied))
    return Looked(definition, [match])


def one_row(
    row: Mapping[str, Any], *, keys: Sequence[str], masked: frozenset[str], what: str
) -> Match:
    """A row that is an event of its own."""
    said = {name: as_json(row[name]) for name in keys}
    copied = {name: row[name] for name in COPIED if name in row}
    (subject,) = public([said], masked=masked)
    words = ", ".join(f"{name} {value}" for name, value in subject.items())
    return Match(
        f"{what} returned {words}",
        subject=subject,
        key=key_of(said),
        rows=public([row], masked=masked),
        rows_matching=1,
        copied=copied,
        identity=identity_of(copied),
        lasts=identity_of(copied) is None,
    )


def public(
    rows: Sequence[Mapping[str, Any]], *, masked: frozenset[str]
) -> Sequence[Mapping[str, Any]]:
    """Rows as JSON, without what is personal."""
    said = [{name: as_json(value) for name, value in row.items()} for row in rows]
    return narrow(mask(said, masked=masked))
