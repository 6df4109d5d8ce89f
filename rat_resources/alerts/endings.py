"""Endings: runs that ended without publishing, as alerts see them.

What a run that publishes says is decided in the run (`rat_assets.alerting`). The tick that looks at
the others is `watch`.
"""

import re
import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from rat_resources.alerts import episodes, outcomes
from rat_resources.alerts.definitions import Definition, load
from rat_resources.alerts.matches import Looked, Occasion
from rat_resources.alerts.outcomes import Outcome, Verdicts
from rat_resources.errors import RatError

KINDS = ("run_status", "quality")
LONGEST_CAUSE = 200
# What differs between two failures of one cause.
VARYING = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{12,}|\d+")


def tell(tx: Session, run_ids: Sequence[uuid.UUID]) -> list[uuid.UUID]:
    """Tell of runs that failed or were cancelled for good; the ids of the events that this added."""
    definitions = load(tx, kinds=KINDS)
    if not definitions or not run_ids:
        return []
    added = []
    for run in tx.execute(ENDED, {"run_ids": list(run_ids)}):
        outcome = outcome_of(tx, run)
        looked = [
            look(tx, each, outcome)
            for each in definitions
            if is_about(each, outcome.table)
        ]
        if looked:
            told = episodes.conclude(tx, looked, occasion=occasion_of(run))
            added += episodes.state(tx, told.to_json()) if told else []
    return added


# An attempt that is tried again is no end.
ENDED = text("""
    SELECT
        run.id,
        run.pipeline_id,
        run.status,
        coalesce(run.error, '') AS error,
        run.dagster_run_id,
        run.finished_at,
        coalesce(run.rows_written, 0) AS rows_written,
        run.unchanged,
        run.changes -> 'columns' AS columns,
        concat_ws('.', pipeline.namespace, pipeline.layer, pipeline.name) AS "table"
    FROM rat.runs AS run
    JOIN rat.pipelines AS pipeline ON pipeline.id = run.pipeline_id
    WHERE run.id = ANY(:run_ids)
        AND run.status IN ('failed', 'cancelled')
        AND NOT EXISTS (
            SELECT FROM rat.runs AS later
            WHERE later.dagster_run_id = run.dagster_run_id
                AND later.pipeline_id = run.pipeline_id
                AND later.attempt > run.attempt
        )
        AND NOT EXISTS (
            SELECT FROM trace.tasks AS task
            WHERE task.run_id = run.id AND task.next_retry_at IS NOT NULL
        )
    ORDER BY run.finished_at, run.id
""")


def find_last(tx: Session, *, only: str | None = None) -> list[Outcome]:
    """What the last run of every pipeline did, or of one alone."""
    runs = tx.execute(LAST, {"only": only})
    return [outcome_of(tx, each) for each in runs]


LAST = text("""
    SELECT run.*, named."table"
    FROM rat.pipelines AS pipeline
    CROSS JOIN LATERAL (
        SELECT concat_ws('.', pipeline.namespace, pipeline.layer, pipeline.name) AS "table"
    ) AS named
    CROSS JOIN LATERAL (
        SELECT
            id, pipeline_id, status, coalesce(error, '') AS error,
            coalesce(rows_written, 0) AS rows_written, unchanged, changes -> 'columns' AS columns
        FROM rat.runs
        WHERE pipeline_id = pipeline.id AND finished_at IS NOT NULL
        ORDER BY created_at DESC
        LIMIT 1
    ) AS run
    WHERE pipeline.deleted_at IS NULL
        AND (named."table" = CAST(:only AS text) OR CAST(:only AS text) IS NULL)
    ORDER BY named."table"
""")


def is_about(definition: Definition, table: str) -> bool:
    """Whether a definition is about a pipeline."""
    if definition.kind == "run_status":
        return outcomes.watches(definition, table)
    return str(definition.table) == table


def look(tx: Session, definition: Definition, outcome: Outcome) -> Looked:
    """What a run that published nothing says to a definition: of other subjects nothing."""
    covers = frozenset(
        [outcome.table]
        if definition.kind == "run_status"
        else [each.name for each in outcome.results]
    )
    try:
        matches = outcomes.look(tx, definition, outcome) or []
    except RatError as error:
        return Looked(definition, trouble=error)
    # A run that was cancelled does not end the episode of one that failed.
    if definition.kind == "run_status" and not matches:
        covers = frozenset()
    return Looked(definition, matches, covers=covers)


def outcome_of(tx: Session, run: Row[Any]) -> Outcome:
    """What a run did."""
    results = tx.execute(RESULTS, {"run_id": run.id})
    return Outcome(
        run_id=run.id,
        pipeline_id=run.pipeline_id,
        table=run.table,
        status=run.status,
        error=run.error,
        rows_written=run.rows_written,
        unchanged=run.unchanged,
        columns=run.columns or (),
        results=[
            Verdicts(
                each.name,
                each.status,
                offenders=None if each.value is None else int(each.value),
                message=each.message,
                sample=each.sample or (),
                remediation=each.remediation,
            )
            for each in results
        ],
    )


RESULTS = text("""
    SELECT test.name, result.status, result.value, result.message, result.sample, test.remediation
    FROM rat.quality_results AS result
    JOIN rat.quality_tests AS test ON test.id = result.test_id
    WHERE result.run_id = :run_id
    ORDER BY test.name
""")


def occasion_of(run: Row[Any]) -> Occasion:
    """The occasion that a run's end is."""
    return Occasion(
        identity=str(run.id),
        table=run.table,
        pipeline=run.table,
        run_id=run.id,
        dagster_run_id=run.dagster_run_id,
        at=run.finished_at,
        cause=cause_of(run.error, table=run.table) or f"{run.status} {run.id}",
    )


def cause_of(error: str, *, table: str) -> str:
    """What failures of one cause say alike, whatever table and figures they name."""
    first = error.strip().partition("\n")[0].replace(table, "")
    return VARYING.sub("…", first)[:LONGEST_CAUSE]
