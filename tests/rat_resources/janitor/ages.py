"""Ages: a RAT as the janitor finds it long after something happened there."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from rat_resources.janitor import Cleaned, clean
from rat_resources.metadata import Metadata
from rat_resources.mirror import log
from tests.factories import Shop

LATER = timedelta(days=100)


def clean_later(shop: Shop, *, after: timedelta = LATER, **asked: Any) -> Cleaned:  # noqa: ANN401 - what clean takes
    """Clean up, as if so much time had gone by."""
    now = datetime.now(UTC) + after
    return clean(shop.whole, shop.instance, now=now, **asked)


def settle(metadata: Metadata) -> None:
    """Let the mirror tell all that there is, and be sure that nothing was missed."""
    for _ in range(2):
        with metadata.transaction() as tx:
            tx.execute(text("UPDATE rat.mirror_positions SET seen_at = '-infinity'"))
        log.catch_up(metadata)


def make_runs(metadata: Metadata, count: int, *, events: int) -> None:
    """Let Dagster have runs of some plain job, each with so many events; the mirror has told them."""
    with metadata.transaction() as tx:
        tx.execute(text(RUNS), {"count": count})
        tx.execute(text(EVENTS), {"count": count, "events": events})
    settle(metadata)


RUNS = """
    INSERT INTO dagster.runs
        (run_id, pipeline_name, status, run_body, create_timestamp, update_timestamp,
         start_time, end_time)
    SELECT
        'plain-' || nth, 'plain', 'SUCCESS', '{}',
        now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC',
        extract(epoch FROM now()), extract(epoch FROM now())
    FROM generate_series(1, :count) AS nth
"""
EVENTS = """
    INSERT INTO dagster.event_logs (run_id, event, dagster_event_type, "timestamp", step_key)
    SELECT 'plain-' || nth, '{"dagster_event": {"message": "so it is"}}', 'ENGINE_EVENT',
        now() AT TIME ZONE 'UTC', 'step'
    FROM generate_series(1, :count) AS nth, generate_series(1, :events)
"""


def make_old_tick(metadata: Metadata) -> None:
    """Let a sensor have ticked long ago, and since."""
    tick = """
        INSERT INTO dagster.job_ticks
            (job_origin_id, selector_id, status, type, "timestamp", tick_body)
        SELECT 'o', 's', 'SKIPPED', 'SENSOR', now() - make_interval(days => 40 * nth), ''
        FROM generate_series(0, 1) AS nth
    """
    with metadata.transaction() as tx:
        tx.execute(text(tick))
