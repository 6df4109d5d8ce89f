"""Following: a run that changes is told to CHM and the reporting star in the transaction that changes it.

No run fails for what somebody did to a row there: it goes on, and what was refused is told by the
next reader of Dagster's log. Its task is no such row: it is part of the run (`rat_resources.tasks`).
"""

import logging
import uuid
from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from rat_resources.mirror import clients, updates


def follow_runs(tx: Session, run_ids: Sequence[uuid.UUID]) -> None:
    """Make what CHM and the star say of these runs what `rat.runs` says, or say that they refuse."""
    try:
        with tx.begin_nested():
            clients.reflect_runs(tx, run_ids)
            updates.reflect_updates(tx, run_ids)
    except DBAPIError:
        said = ", ".join(map(str, run_ids))
        logger = logging.getLogger(__name__)
        logger.warning("not mirrored yet: run %s", said, exc_info=True)


def follow_late(tx: Session, dagster_run_ids: Sequence[str]) -> None:
    """Tell what these Dagster runs ran and could not tell when it happened; nothing, mostly."""
    late = tx.scalars(LATE, {"ids": dagster_run_ids}).all()
    if late:
        follow_runs(tx, late)


LATE = text("""
    SELECT run.id
    FROM rat.runs AS run
    LEFT JOIN chm.runs AS client USING (id)
    LEFT JOIN lakeflow.fact_pipeline_update_timeline AS star
        ON star.workspace_id = lakeflow.workspace_id() AND star.update_id = run.id::text
    WHERE run.dagster_run_id = ANY(:ids)
        AND (
            client.id IS NULL
            OR star.update_id IS NULL
            OR (run.started_at, run.finished_at)
                IS DISTINCT FROM (client.started_at, client.finished_at)
            OR run.finished_at IS DISTINCT FROM star.period_end_time
        )
    ORDER BY run.id
""")
