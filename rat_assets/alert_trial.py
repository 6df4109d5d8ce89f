"""Trying an alert: what it finds in what is published now. Nothing is written, and nobody is told.

A run evaluates its table on its own branch (`rat_assets.alerting`); this looks at main, with the very
same conditions.
"""

from datetime import UTC, datetime

from duckdb import DuckDBPyConnection

from rat_assets import alert_code, findings
from rat_assets.findings import Scene
from rat_assets.inputs import Inputs
from rat_resources import releases, runs
from rat_resources.alerts import endings, lateness, outcomes
from rat_resources.alerts.conditions import listed
from rat_resources.alerts.definitions import Definition, load
from rat_resources.alerts.matches import Looked, Match
from rat_resources.columns import personal_names
from rat_resources.errors import NotFoundError, RatError
from rat_resources.lake.reading import register_table
from rat_resources.lake.refs import MAIN
from rat_resources.lake.sql import quote
from rat_resources.names import TableName, nearest
from rat_resources.platform import Platform

BEFORE = "rat: the table before"


def find(whole: Platform, name: str) -> Definition:
    """The alert of a name, `ns/name` or `name` alone; NotFoundError with what was probably meant."""
    with whole.metadata.transaction() as tx:
        known = {f"{each.namespace}/{each.name}": each for each in load(tx)}
    found = [
        each
        for full, each in known.items()
        if name in (full, each.name, full.replace("/", "."))
    ]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f"{each.namespace}/{each.name}" for each in found)
        raise NotFoundError(f"{name} is several alerts", fix=f"write one of {names}")
    guess = nearest(name, [*known, *(each.name for each in known.values())])
    fix = f"did you mean {guess}?" if guess else "see `rat alerts`"
    raise NotFoundError(f"no alert that is enabled is called {name}", fix=fix)


def evaluate(whole: Platform, definition: Definition) -> Looked:
    """What an alert finds now."""
    if definition.kind in alert_code.KINDS:
        [looked] = alert_code.ask_main(whole, [definition], whole.lake.refs.head(MAIN))
        return looked
    try:
        if definition.kind in findings.KINDS:
            return look_at_main(whole, definition)
    except RatError as error:
        return Looked(definition, trouble=error)
    return look_at_runs(whole, definition)


def look_at_main(whole: Platform, definition: Definition) -> Looked:
    """What an alert about rows finds in main."""
    table = definition.table
    if table is None:
        raise NotFoundError("the alert names no table", fix="give it a dataset")
    with whole.metadata.transaction() as tx:
        release = releases.current(tx) or 0
        published = releases.load(tx, release=release, only=[table])
    config = published[0].spec.config if published else None
    inputs = Inputs(whole, release, MAIN, datetime.now(UTC))
    inputs.resolve([table])
    with whole.lake.connect() as connection:
        inputs.register(connection)
        scene = Scene(
            connection,
            table,
            before=register_before(inputs, table, connection),
            masked=personal_names(config.columns) if config else frozenset(),
            order=(config.watermark_column or None) if config else None,
        )
        [looked] = findings.look(scene, [definition])
    return looked


def register_before(
    inputs: Inputs, table: TableName, connection: DuckDBPyConnection
) -> str | None:
    """What SQL calls the table as it was before its last publication; None: it was not there."""
    now = inputs.tables.get(table)
    snapshot = now.current_snapshot() if now is not None else None
    if now is None or snapshot is None or snapshot.parent_snapshot_id is None:
        return None
    before = snapshot.parent_snapshot_id
    if now.snapshot_by_id(before) is None:
        return None
    register_table(connection, now, view=BEFORE, snapshot_id=before)
    return quote(BEFORE)


def look_at_runs(whole: Platform, definition: Definition) -> Looked:
    """What an alert about runs finds in the last ones, and one about time now."""
    with whole.metadata.transaction() as tx:
        if definition.kind == "freshness":
            return lateness.look(tx, definition, now=runs.database_time(tx))
        matches: list[Match] = []
        if lateness.MISSING in listed(definition.condition.get("statuses")):
            looked = lateness.look_for_missing(
                tx, definition, now=runs.database_time(tx)
            )
            matches += looked.matches
        only = None if definition.table is None else str(definition.table)
        for each in endings.find_last(tx, only=only):
            if definition.kind in outcomes.KINDS and endings.is_about(
                definition, each.table
            ):
                try:
                    matches += outcomes.look(tx, definition, each) or ()
                except RatError as error:
                    return Looked(definition, trouble=error)
    return Looked(definition, matches)
