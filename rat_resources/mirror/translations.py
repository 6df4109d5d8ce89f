"""Translations: one state in the words of every schema. The only place where they stand.

Spellings differ on purpose, as the documents do: `cancelled` (rat), `Canceled` (trace), `canceled`
(chm), `CANCELLED` (Lakeflow's jobs), `CANCELED` (its pipeline updates).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rat_resources.metadata.runs import RunStatus


@dataclass(frozen=True)
class Words:
    """One state of a run, as each schema says it."""

    rat: str
    task: str  # trace.tasks.status
    chm: str
    result: str | None  # lakeflow's result_state; None while it is unfinished
    update: str  # lakeflow's state of a pipeline update


PENDING = Words("pending", "Queued", "running", None, "QUEUED")
RUNNING = Words("running", "Running", "running", None, "RUNNING")
SUCCESS = Words("success", "Completed", "success", "SUCCEEDED", "COMPLETED")
FAILED = Words("failed", "Failed", "failed", "FAILED", "FAILED")
CANCELLED = Words("cancelled", "Canceled", "canceled", "CANCELLED", "CANCELED")

OF_RUN: Mapping[str, Words] = {
    RunStatus.PENDING: PENDING,
    RunStatus.RUNNING: RUNNING,
    RunStatus.SUCCESS: SUCCESS,
    RunStatus.FAILED: FAILED,
    RunStatus.CANCELLED: CANCELLED,
}
"""By the status of `rat.runs`."""

OF_DAGSTER: Mapping[str, Words] = {
    "NOT_STARTED": PENDING,
    "MANAGED": PENDING,
    "QUEUED": PENDING,
    "STARTING": RUNNING,
    "STARTED": RUNNING,
    "CANCELING": RUNNING,
    "SUSPENDED": RUNNING,
    "SUCCESS": SUCCESS,
    "FAILURE": FAILED,
    "CANCELED": CANCELLED,
}
"""By the status of a run of Dagster's."""

# A run that found nothing new succeeded, and its client hears that it was skipped.
CHM_SKIPPED = "skipped"

SUCCEEDED = ("SUCCEEDED", "SUCCESS")  # we store the first and read both

# Why a Dagster run failed, where Dagster knows better than FAILED: the result, the termination code.
TIMED_OUT = ("TIMED_OUT", "EXECUTION_TIMEOUT")
WORKER_DIED = ("ERROR", "CLUSTER_ERROR")
TERMINATIONS: Mapping[str, str] = {
    "SUCCEEDED": "SUCCESS",
    "FAILED": "RUN_EXECUTION_ERROR",
    "CANCELLED": "CANCELLED",
    "SKIPPED": "SKIPPED",
    "BLOCKED": "UPSTREAM_FAILED",
    TIMED_OUT[0]: TIMED_OUT[1],
    WORKER_DIED[0]: WORKER_DIED[1],
}
"""Lakeflow's termination code by its result state."""

RETRY = "ONETIME_RETRY"
# Lakeflow's trigger type by the tags of a Dagster run; the first tag that is there wins.
TRIGGERS: tuple[tuple[str, str], ...] = (
    ("dagster/parent_run_id", RETRY),
    ("dagster/retry_number", RETRY),
    ("dagster/schedule_name", "CRON"),
    ("dagster/sensor_name", "FILE_ARRIVAL"),
    ("dagster/auto_materialize", "CONTINUOUS"),
    ("dagster/from_automation_condition", "CONTINUOUS"),
)
BY_HAND = "ONETIME"
# By the label of a run of ours, which knows better: one sensor asks for all of them.
LABELS: tuple[tuple[str, str], ...] = (
    ("schedule:", "CRON"),
    ("trigger:lz_upload:", "FILE_ARRIVAL"),
    ("trigger:cron:", "CRON"),
    ("trigger:", "TABLE"),
    ("auto", "CONTINUOUS"),
    ("replay:", RETRY),
    ("manual", BY_HAND),
    ("backfill", BY_HAND),
    ("invalidation:", BY_HAND),
)


# What Dagster's own monitor, and our reconciler, say of a run that they end. SQL patterns.
TIMEOUT_MESSAGES = (
    "Exceeded maximum runtime %",
    "Canceling due to exceeding maximum runtime %",
)
DEATH_MESSAGES = (
    "the process that ran it died",
    "Detected run worker status %",
    "Run timed out due to taking longer than %",
)

# What became of a step, by its last event.
OF_STEP: Mapping[str, str] = {
    "STEP_SUCCESS": "SUCCEEDED",
    "STEP_FAILURE": "FAILED",
    "STEP_UP_FOR_RETRY": "FAILED",
    "STEP_SKIPPED": "SKIPPED",
}
# What became of a step that never began, by the status of its run.
OF_UNSTARTED: Mapping[str, str] = {"FAILURE": "BLOCKED", "CANCELED": "CANCELLED"}


def trigger_type(tags: Mapping[str, str]) -> str:
    """Why a Dagster run ran, in Lakeflow's words: retry, schedule, sensor, automation, else by hand."""
    return next((word for tag, word in TRIGGERS if tag in tags), BY_HAND)


LAYER_TYPES: Mapping[str, str] = {
    "bronze": "ingestion",
    "silver": "transform",
    "gold": "transform",
}
"""CHM's pipeline type by the layer."""
