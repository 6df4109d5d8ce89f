"""Snapshots: what Dagster keeps of a run's plan, which steps it has and what each one waits for."""

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

SNAPSHOT = text("SELECT snapshot_body FROM dagster.snapshots WHERE snapshot_id = :id")


def load(tx: Session, snapshot_id: str | None) -> Mapping[str, Any]:
    """A plan as Dagster keeps it; empty when it is gone or cannot be read."""
    body = tx.scalar(SNAPSHOT, {"id": snapshot_id})
    with suppress(ValueError, TypeError, zlib.error):
        plan = json.loads(zlib.decompress(body))
        if isinstance(plan, dict):
            return plan
    return {}


def steps_of(tx: Session, snapshot_id: str | None) -> Sequence[str]:
    """The steps that a run of this plan executes."""
    return list(load(tx, snapshot_id).get("step_keys_to_execute") or ())


def waits_of(plan: Mapping[str, Any]) -> dict[str, list[str]]:
    """By task, the tasks that it waits for."""
    return {
        task_key(step["key"]): sorted(
            {
                task_key(handle["step_key"])
                for each in step["inputs"]
                for handle in each["upstream_output_handles"]
            }
        )
        for step in plan.get("steps") or ()
    }


def task_key(step_key: str) -> str:
    """The task that a step is of, whatever it was mapped over."""
    return step_key.partition("[")[0]


UNDESCRIBED = text("""
    SELECT job_id, task_key, max(plan) AS plan
    FROM (
        SELECT
            tasks.job_id, tasks.task_key,
            rat.as_json(runs.run_body) ->> 'execution_plan_snapshot_id' AS plan
        FROM lakeflow.fact_job_task_run_timeline AS steps
        JOIN lakeflow.dim_job_task AS tasks USING (workspace_id, job_id, task_key)
        JOIN dagster.runs USING (run_id)
        WHERE steps.workspace_id = lakeflow.workspace_id()
          AND steps.run_id = ANY(:ids)
          AND tasks.depends_on_keys_json IS NULL
    ) AS undescribed
    GROUP BY job_id, task_key
    ORDER BY job_id, task_key
""")

DESCRIBE = text("""
    UPDATE lakeflow.dim_job_task
    SET depends_on_keys_json = CAST(:waits AS jsonb)
    WHERE workspace_id = lakeflow.workspace_id()
      AND job_id = :job_id
      AND task_key = :task_key
      AND depends_on_keys_json IS NULL
""")


def describe_tasks(tx: Session, run_ids: Iterable[str]) -> None:
    """Say of the tasks that were not met before what each waits for, by the plan of its run."""
    found = tx.execute(UNDESCRIBED, {"ids": list(run_ids)}).all()
    waits = {plan: waits_of(load(tx, plan)) for plan in {row.plan for row in found}}
    rows = [
        {
            "job_id": row.job_id,
            "task_key": row.task_key,
            "waits": json.dumps(waits[row.plan][row.task_key]),
        }
        for row in found
        if row.task_key in waits[row.plan]
    ]
    if rows:
        tx.execute(DESCRIBE, rows)
