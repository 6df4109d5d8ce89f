"""What Dagster shows of a publication: the metadata of a materialization, group by group.

Entries are shown in the order of `GROUPS`; another kind of entry is one more function there. How a
value is shown is `rat_assets.entries`, what a check shows is `rat_assets.quality`.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from pyiceberg.table import Table
from pyiceberg.types import NestedField

from rat_assets import alert_entries
from rat_assets.commands.display import duration, size
from rat_assets.entries import Entries, as_sql, as_table, fit
from rat_assets.lineage_entries import describe_lineage
from rat_assets.phases import Outcome, Step
from rat_assets.reports.pictures import show_charts, show_numbers
from rat_resources.columns import Column, find_column
from rat_resources.lake.types import type_words

BYTES = 60_000
FILES = 50
DESCRIPTION_LENGTH = 200

Group = Callable[[Step, Outcome], Entries]


def describe(step: Step, outcome: Outcome) -> dict[str, Any]:
    """What a materialization shows; what a stranger asks first comes first."""
    groups = (attempt(group, step, outcome) for group in GROUPS)
    # Pictures come first, a line each; they have bounds of their own.
    return {**attempt(describe_charts, step, outcome), **fit(groups, limit=BYTES)}


def attempt(group: Group, step: Step, outcome: Outcome) -> Entries:
    """What a group shows; the data is published, so that it can't be shown is only told."""
    try:
        return group(step, outcome)
    except Exception as error:  # noqa: BLE001
        what = f"could not be shown: {type(error).__name__}: {error}"
        outcome.journal.say(f"{group.__name__}: {what}", level="warning")
        return {group.__name__: dg.MetadataValue.text(what[:DESCRIPTION_LENGTH])}


def describe_rows(_step: Step, outcome: Outcome) -> Entries:
    """How many rows there are, and how many this run wrote."""
    written = outcome.written
    shown: dict[str, Any] = {
        "dagster/row_count": dg.MetadataValue.int(outcome.rows_total),
        "rows_written": dg.MetadataValue.int(written.rows_written if written else 0),
        "unchanged": dg.MetadataValue.bool(outcome.unchanged),
    }
    if outcome.table is not None and (total := total_of(outcome.table, "files-size")):
        shown["dagster/size_bytes"] = dg.MetadataValue.int(total)
    return shown


def total_of(table: Table, what: str) -> int | None:
    """A total that the table's newest snapshot keeps."""
    snapshot = table.current_snapshot()
    if snapshot is None or snapshot.summary is None:
        return None
    total = snapshot.summary[f"total-{what}"]
    return None if total is None else int(total)


def describe_charts(step: Step, outcome: Outcome) -> Entries:
    """The pictures that the author wants."""
    return show_charts(
        outcome.charts, source=str(step.spec.table), log=outcome.journal.log
    )


def describe_numbers(_step: Step, outcome: Outcome) -> Entries:
    """What the pictures show, as numbers."""
    return show_numbers(outcome.charts)


def describe_alerts(_step: Step, outcome: Outcome) -> Entries:
    """The alerts about the table, and which of them are raised."""
    return alert_entries.describe(outcome.alerts)


def describe_columns(step: Step, outcome: Outcome) -> Entries:
    """The table's columns, with what config.yaml says about them."""
    if outcome.table is None:
        return {}
    fields = outcome.table.schema().fields
    columns = [
        describe_column(field, said=step.spec.config.columns) for field in fields
    ]
    return {"dagster/column_schema": dg.TableSchema(columns)}


def describe_column(field: NestedField, *, said: Sequence[Column]) -> dg.TableColumn:
    """A column with its type, and what is *said* about it."""
    column = find_column(said, field.name) or Column(field.name)
    is_unique = any(
        test.kind == "unique" and test.severity == "error" and not test.where
        for test in column.tests
    )
    return dg.TableColumn(
        field.name,
        type_words(field.field_type),
        description=(column.description or field.doc or "")[:DESCRIPTION_LENGTH]
        or None,
        constraints=dg.TableColumnConstraints(
            nullable=not field.required, unique=is_unique
        ),
        tags={"pii": "true"} if column.pii else {},
    )


def describe_changes(_step: Step, outcome: Outcome) -> Entries:
    """What the run made different from what stood on main."""
    changes = outcome.changes
    return {"changes_against_main": as_table(list(changes.lines))} if changes else {}


def describe_sample(_step: Step, outcome: Outcome) -> Entries:
    """A few rows."""
    return {"sample": as_table(outcome.sample)} if outcome.sample else {}


def describe_inputs(_step: Step, outcome: Outcome) -> Entries:
    """The snapshots and the files that the run read."""
    shown: dict[str, Any] = {}
    if tables := sorted(outcome.inputs.tables.items()):
        shown["inputs"] = as_table(
            [{"table": str(name)} | describe_input(table) for name, table in tables]
        )
    if outcome.files:
        files = [{"file": name} for name in outcome.files]
        shown["files"] = as_table(files, limit=FILES)
    return shown


def describe_input(table: Table) -> dict[str, Any]:
    """What an input was when it was read."""
    snapshot = table.current_snapshot()
    if snapshot is None:
        return {"rows": 0, "published": "", "snapshot": ""}
    return {
        "rows": total_of(table, "records"),
        "published": moment(snapshot.timestamp_ms),
        "snapshot": str(snapshot.snapshot_id),
    }


def moment(timestamp_ms: int) -> str:
    """A time as a table shows it."""
    return f"{datetime.fromtimestamp(timestamp_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def describe_scope(_step: Step, outcome: Outcome) -> Entries:
    """What of the table was made anew for invalidations, and why no less."""
    rebuild = outcome.rebuild
    if rebuild is None:
        return {}
    by = f" by {', '.join(rebuild.columns)}" if rebuild.columns else ""
    return {"scope": dg.MetadataValue.text(f"{rebuild.level}{by}: {rebuild.why}")}


def describe_query(_step: Step, outcome: Outcome) -> Entries:
    """The query that ran."""
    return {"compiled_sql": as_sql(outcome.sql)} if outcome.sql else {}


def describe_sources(_step: Step, outcome: Outcome) -> Entries:
    """Where the columns take their values from."""
    return describe_lineage(outcome.lineage)


def describe_phases(_step: Step, outcome: Outcome) -> Entries:
    """What each phase cost, and all of them together."""
    profiles = outcome.journal.profiles
    phases = [
        {
            "phase": each.phase,
            "took": duration(each.ms),
            "rows": each.rows,
            "bytes": size(each.bytes),
            "peak memory": size(each.peak_memory),
        }
        for each in profiles
    ]
    return {
        "duration_ms": dg.MetadataValue.int(sum(each.ms for each in profiles)),
        "phases": as_table(phases),
    }


def describe_run(step: Step, outcome: Outcome) -> Entries:
    """Which run it was, of which code, and where its publication stands."""
    return {
        "trigger": dg.MetadataValue.text(step.trigger),
        "dagster_run": dg.MetadataValue.dagster_run(step.dagster_run_id),
        "rat_run_id": dg.MetadataValue.text(str(outcome.run_id)),
        "branch": dg.MetadataValue.text(outcome.branch),
        "commit": dg.MetadataValue.text(outcome.commit or outcome.base_commit),
        # As text: of numbers Dagster draws a plot.
        "release": dg.MetadataValue.text(str(step.release)),
        "code_version": dg.MetadataValue.text(step.spec.code_version),
    }


def describe_place(step: Step, outcome: Outcome) -> Entries:
    """Where the table is."""
    shown: dict[str, Any] = {
        "dagster/table_name": dg.MetadataValue.text(str(step.spec.table))
    }
    if outcome.table is not None:
        shown["snapshot_id"] = dg.MetadataValue.text(outcome.data_version)
        shown["metadata_location"] = dg.MetadataValue.path(
            outcome.table.metadata_location
        )
    return shown


GROUPS: tuple[Group, ...] = (
    describe_rows,
    describe_alerts,
    describe_changes,
    describe_scope,
    describe_columns,
    describe_sample,
    describe_inputs,
    describe_sources,
    describe_query,
    describe_phases,
    describe_run,
    describe_place,
    describe_numbers,
)
