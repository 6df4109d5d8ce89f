"""CHM's rules: which of them a failed run of a client's pipeline fires.

`on_failure` fires once a failed run; `failures_in_window` when enough failed within the window that
ends with a failure, once a bucket: the windows that follow one another since the epoch. A rule of a
client is about all its active pipelines, one of a pipeline about that alone. Where it is sent stands
in the rule; no event holds it.
"""

import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from rat_resources.alerts import events
from rat_resources.alerts.endings import cause_of
from rat_resources.alerts.events import Event, Payload

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def tell(tx: Session, run_ids: Sequence[uuid.UUID]) -> list[uuid.UUID]:
    """Tell of the rules that these failed runs fire; the ids of the events that this added."""
    fired = tx.execute(FIRED, {"run_ids": list(run_ids)}).all()
    return events.tell(tx, events_of(tx, fired)) if fired else []


# What failed before somebody made the rule is told by none.
FIRED = text("""
    SELECT
        rule.id AS rule_id,
        rule.rule_type,
        rule.threshold,
        rule.window_minutes,
        rule.pipeline_id IS NULL AS is_of_client,
        run.id AS run_id,
        run.event_time,
        run.error_message,
        run.status_reason,
        run.external_run_id,
        pipeline.id AS pipeline_id,
        pipeline.origin,
        coalesce(pipeline.table_name, client.name || '/' || pipeline.name) AS pipeline,
        pipeline.table_name,
        client.id AS client_id,
        client.name AS client,
        ours.dagster_run_id
    FROM chm.runs AS run
    JOIN chm.pipelines AS pipeline ON pipeline.id = run.pipeline_id
    JOIN chm.clients AS client ON client.id = pipeline.client_id
    JOIN chm.alert_rules AS rule
        ON rule.pipeline_id = pipeline.id
        OR (rule.pipeline_id IS NULL AND rule.client_id = client.id AND pipeline.is_active)
    LEFT JOIN rat.runs AS ours ON ours.id = run.id
    WHERE run.id = ANY(:run_ids)
        AND run.status = 'failed'
        AND rule.is_enabled
        AND run.event_time >= rule.created_at
    ORDER BY run.event_time, run.id, rule.id
""")


def events_of(tx: Session, fired: Sequence[Row[Any]]) -> Iterator[Event]:
    """The events of rules that may fire."""
    for each in fired:
        if each.rule_type == "on_failure":
            yield on_failure(each)
        else:
            reached = tx.execute(
                REACHED,
                {
                    "window": timedelta(minutes=each.window_minutes),
                    "at": each.event_time,
                    "threshold": each.threshold,
                    "client_id": each.client_id if each.is_of_client else None,
                    "pipeline_id": each.pipeline_id,
                },
            ).one_or_none()
            if reached is not None:
                yield in_window(each, at=reached.event_time, failed=reached.failed)


# A failure that is heard of late may complete the window of a later one.
REACHED = text("""
    WITH failures AS (
        SELECT run.event_time
        FROM chm.runs AS run
        JOIN chm.pipelines AS pipeline ON pipeline.id = run.pipeline_id
        WHERE run.status = 'failed'
            AND run.event_time > :at - CAST(:window AS interval)
            AND run.event_time < :at + CAST(:window AS interval)
            AND CASE
                WHEN CAST(:client_id AS uuid) IS NULL THEN pipeline.id = :pipeline_id
                ELSE pipeline.client_id = :client_id AND pipeline.is_active
            END
    ),
    counted AS (
        SELECT
            event_time,
            count(*) OVER (
                ORDER BY event_time
                -- The window is open at its start.
                RANGE BETWEEN CAST(:window AS interval) - interval '1 microsecond' PRECEDING
                    AND CURRENT ROW
            ) AS failed
        FROM failures
    )
    SELECT event_time, failed
    FROM counted
    WHERE event_time >= :at AND failed >= :threshold
    ORDER BY event_time
    LIMIT 1
""")


def on_failure(fired: Row[Any]) -> Event:
    """The event that a run failed."""
    why = fired.error_message or fired.status_reason or ""
    said = f": {first_line(why)}" if why else ""
    return Event(
        f"chm:{fired.rule_id}:{fired.run_id}",
        payload(fired, f"{fired.pipeline} failed{said}", cause=why),
        severity="warning",
        run_id=fired.run_id if fired.origin == "rat" else None,
        event_time=fired.event_time,
    )


def in_window(fired: Row[Any], *, at: datetime, failed: int) -> Event:
    """The event that so many runs failed in a window."""
    window = timedelta(minutes=fired.window_minutes)
    bucket = EPOCH + (at - EPOCH) // window * window
    whose = f"of {fired.client}" if fired.is_of_client else f"of {fired.pipeline}"
    return Event(
        f"chm:{fired.rule_id}:{bucket.astimezone(UTC).isoformat()}",
        payload(
            fired,
            f"{failed} runs {whose} failed within {fired.window_minutes} minutes",
            failed=failed,
            threshold=fired.threshold,
            window_minutes=fired.window_minutes,
        ),
        severity="critical",
        run_id=fired.run_id if fired.origin == "rat" else None,
        event_time=at,
    )


def payload(fired: Row[Any], title: str, *, cause: str = "", **figures: Any) -> Payload:  # noqa: ANN401 - JSON
    """What an event of a rule tells."""
    return Payload(
        kind="chm",
        title=title,
        labels={"client": fired.client, "rule_type": fired.rule_type},
        table=fired.table_name,
        pipeline=fired.pipeline,
        run_id=str(fired.run_id) if fired.origin == "rat" else fired.external_run_id,
        dagster_run_id=fired.dagster_run_id,
        since=fired.event_time.isoformat(),
        figures=figures,
        cause=cause_of(cause, table=fired.pipeline) or f"chm {fired.rule_id}",
        rule=str(fired.rule_id),
    )


def first_line(text: str) -> str:
    """The first line of a text."""
    return text.strip().partition("\n")[0]
