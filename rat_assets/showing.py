"""What Dagster shows of a publication: the metadata of a materialization, group by group.

An entry is shown in the order of `GROUPS`; another kind of entry is one more function there. How a
value is shown is `rat_assets.entries`, what a check shows is `rat_assets.quality`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg

from rat_assets.entries import as_sql, as_table
from rat_assets.phases import Outcome, Step
from rat_resources.lake.types import type_words

Entries = Mapping[str, Any]


def describe(step: Step, outcome: Outcome) -> dict[str, Any]:
    """What a materialization shows."""
    return {
        name: value
        for describe_group in GROUPS
        for name, value in describe_group(step, outcome).items()
    }


def describe_rows(_step: Step, outcome: Outcome) -> Entries:
    """How many rows there are, and how many this run wrote."""
    return {
        "dagster/row_count": dg.MetadataValue.int(outcome.rows_total),
        "rows_written": dg.MetadataValue.int(
            outcome.written.rows_written if outcome.written else 0
        ),
        "unchanged": dg.MetadataValue.bool(outcome.unchanged),
    }


def describe_columns(_step: Step, outcome: Outcome) -> Entries:
    """The table's columns."""
    if outcome.table is None:
        return {}
    columns = [
        dg.TableColumn(
            field.name,
            type_words(field.field_type),
            description=field.doc,
            constraints=dg.TableColumnConstraints(nullable=not field.required),
        )
        for field in outcome.table.schema().fields
    ]
    return {"dagster/column_schema": dg.TableSchema(columns)}


def describe_inputs(_step: Step, outcome: Outcome) -> Entries:
    """The snapshots and the files that the run read."""
    shown: dict[str, Any] = {}
    if outcome.inputs.pins:
        shown["inputs"] = as_table(
            [
                {"table": str(pin.table), "snapshot": str(pin.snapshot_id)}
                for pin in outcome.inputs.pins
            ]
        )
    if outcome.files:
        shown["files"] = as_table([{"file": name} for name in outcome.files[:100]])
    return shown


def describe_query(_step: Step, outcome: Outcome) -> Entries:
    """The query that ran."""
    return {"sql": as_sql(outcome.sql)} if outcome.sql else {}


def describe_phases(_step: Step, outcome: Outcome) -> Entries:
    """What each phase cost."""
    return {"phases": as_table(outcome.journal.phase_profiles)}


def describe_run(step: Step, outcome: Outcome) -> Entries:
    """Which run it was, and where its publication stands."""
    return {
        "trigger": dg.MetadataValue.text(step.trigger),
        "rat_run_id": dg.MetadataValue.text(str(outcome.run_id)),
        "release": dg.MetadataValue.int(step.release),
        "branch": dg.MetadataValue.text(outcome.branch),
        "commit": dg.MetadataValue.text(outcome.commit or outcome.base_commit),
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


GROUPS: tuple[Callable[[Step, Outcome], Entries], ...] = (
    describe_rows,
    describe_columns,
    describe_inputs,
    describe_query,
    describe_phases,
    describe_run,
    describe_place,
)
