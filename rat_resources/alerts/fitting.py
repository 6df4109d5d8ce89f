"""Fitting: whether alerts go with the pipelines and tables that they are about.

What a file alone is wrong about is `documents`. A column that is not there is a problem where nobody
is about to change the table, and otherwise a warning: its next run may bring it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from rat_resources.alerts import conditions
from rat_resources.alerts.definitions import Definition, Source
from rat_resources.alerts.documents import AlertDocument
from rat_resources.errors import FilterError, Problem
from rat_resources.metadata.catalog import IcebergColumn
from rat_resources.metadata.trace.alerts import AlertDefinition
from rat_resources.names import TableName, nearest
from rat_resources.row_filters import find_column
from rat_resources.specs import PipelineSpec

NOWHERE = UUID(int=0)
ON_ROWS = ("threshold", "in", "aggregate", "zscore")


@dataclass(frozen=True)
class Surroundings:
    """What alerts are published among."""

    specs: Mapping[TableName, PipelineSpec]  # as they would be
    changing: Collection[TableName]  # whose pipeline is published with them
    columns: Mapping[TableName, Mapping[str, str]]  # of tables that stand on main
    saved: Collection[tuple[str, str]] = ()  # the names that the job save_alert has
    table_exists: Callable[[TableName], bool] = lambda _: False

    def without_names(self) -> "Surroundings":
        """The same, where any name may be taken."""
        return replace(self, saved=())


def look_around(
    tx: Session,
    documents: Sequence[AlertDocument],
    *,
    specs: Mapping[TableName, PipelineSpec],
    changing: Collection[TableName],
    table_exists: Callable[[TableName], bool],
) -> Surroundings:
    """What these alerts are published among, by two queries; none where there are no alerts."""
    if not documents:
        return Surroundings(specs, changing, {})
    names = {each.table for each in documents if each.table is not None}
    return Surroundings(
        specs, changing, columns_of(tx, names), saved_names(tx), table_exists
    )


def columns_of(
    tx: Session, tables: Collection[TableName]
) -> dict[TableName, dict[str, str]]:
    """The columns of tables as their last publications left them, with DuckDB's types."""
    rows = tx.execute(
        select(
            IcebergColumn.namespace,
            IcebergColumn.layer,
            IcebergColumn.table_name,
            IcebergColumn.name,
            IcebergColumn.type,
        )
        .where(IcebergColumn.namespace.in_({each.namespace for each in tables}))
        .order_by(IcebergColumn.ordinal)
    )
    found: dict[TableName, dict[str, str]] = {}
    for namespace, layer, table, name, kind in rows:
        found.setdefault(TableName(namespace, layer, table), {})[name] = kind
    return {table: found[table] for table in tables if table in found}


def saved_names(tx: Session) -> set[tuple[str, str]]:
    """The names of the alerts that the job saved."""
    rows = tx.execute(
        select(AlertDefinition.namespace, AlertDefinition.name).where(
            AlertDefinition.source == Source.JOB, AlertDefinition.retired_at.is_(None)
        )
    )
    return {(namespace, name) for namespace, name in rows}


@dataclass(frozen=True)
class Fit:
    """What forbids alerts to be published, and what should only be known."""

    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def fit(documents: Sequence[AlertDocument], among: Surroundings) -> Fit:
    """Whether these alerts go with what they are published among."""
    problems: list[Problem] = []
    warnings: list[Problem] = []
    for document in documents:
        problems += refuse(document, among)
        for each in doubts(document, among):
            is_news = document.table in among.changing
            (warnings if is_news or document.table is None else problems).append(each)
    return Fit(tuple(problems), tuple(warnings))


def refuse(document: AlertDocument, among: Surroundings) -> Iterator[Problem]:
    """What cannot become right by itself."""
    if document.key in among.saved:
        what = f"the job save_alert has an alert {'/'.join(document.key)} already"
        yield Problem(document.path, 1, what, "rename this file, or retire the other")
    table = document.table
    if table is None:
        return
    spec = among.specs.get(table)
    if spec is None and not among.table_exists(table):
        guess = nearest(str(table), map(str, among.specs))
        fix = f"did you mean {guess}?" if guess else "correct the name"
        what = f"the alert is about {table}, which no pipeline publishes"
        yield at_condition(document, what, fix)
    elif spec is not None and spec.is_view and document.kind in ON_ROWS:
        what = f"{table} is a view, and is not published by runs"
        yield at_condition(document, what, "watch a table that it reads")
    elif spec is not None:
        yield from unknown_test(document, spec)


def unknown_test(document: AlertDocument, spec: PipelineSpec) -> Iterator[Problem]:
    """A quality test that its pipeline does not have."""
    name = document.condition.get("test", "*")
    known = [each.name for each in spec.tests]
    if document.kind == "quality" and name != "*" and name not in known:
        guess = nearest(str(name), known)
        listed = f"it has {', '.join(known)}" if known else "it has none"
        fix = f"did you mean {guess}?" if guess else listed
        yield at_condition(document, f"{spec.table} has no test {name}", fix)


def doubts(document: AlertDocument, among: Surroundings) -> Iterator[Problem]:
    """What does not go with the columns as they are, or with any pipeline."""
    if document.kind == "run_status":
        yield from patterns_of_nobody(document, among)
    columns = among.columns.get(document.table) if document.table else None
    if columns is None:
        return
    try:
        check_columns(definition_of(document, NOWHERE), columns)
    except FilterError as error:
        what = f"{document.table}: {error.message}"
        yield at_condition(document, what, error.fix)


def check_columns(definition: Definition, columns: Mapping[str, str]) -> None:
    """FilterError where a condition does not go with the columns of its table."""
    if definition.kind in ("threshold", "in"):
        conditions.row_test(definition, columns)
    elif definition.kind == "aggregate":
        conditions.aggregate(definition, columns, table="t", order=any_time(columns))
    elif definition.kind == "zscore":
        conditions.deviation(definition, columns)
    if definition.kind in ON_ROWS:
        conditions.key_columns(definition, columns)
    if definition.kind == "schema_change":
        for name in conditions.listed(definition.condition.get("columns")):
            find_column(name, columns)


def any_time(columns: Mapping[str, str]) -> str | None:
    """A column of times, which the table may be ordered by."""
    times = (
        name for name, kind in columns.items() if kind.startswith(("timestamp", "date"))
    )
    return next(times, None)


def patterns_of_nobody(
    document: AlertDocument, among: Surroundings
) -> Iterator[Problem]:
    """Patterns that no pipeline goes by."""
    known = [str(each) for each in among.specs]
    for pattern in document.condition["pipelines"]:
        if not any(fnmatchcase(each, pattern) for each in known):
            guess = nearest(pattern, known)
            fix = f"did you mean {guess}?" if guess else "write namespace.layer.name"
            yield at_condition(document, f"{pattern} is the name of no pipeline", fix)


def at_condition(document: AlertDocument, what: str, fix: str) -> Problem:
    """A problem of a condition."""
    line = document.lines.get("condition", 1)
    return Problem(document.path, line, what, fix)


def definition_of(
    document: AlertDocument, id_: UUID, *, source: Source = Source.FILE
) -> Definition:
    """The definition that a document becomes."""
    return Definition(
        id=id_,
        name=document.name,
        namespace=document.namespace,
        kind=document.kind,
        condition=document.condition,
        owner=document.owner,
        severity=document.severity,
        labels=document.labels,
        channels=document.channels,
        enabled=document.enabled,
        table=document.table,
        description=document.description,
        remediation=document.remediation,
        source=source,
    )
