"""The reporting star: jobs, their tasks, pipelines, and one row for each of their runs.

The columns of the document come first, those that the gold tables of its system add come after;
the views `gold_*` of the migration say the same rows in the gold names. Who fills them is
`rat_resources.mirror`: jobs and tasks from Dagster's log, pipelines and updates from `rat`.
"""

from datetime import date, datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    PrimaryKeyConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from rat_resources.metadata.base import Json, LakeflowBase, moment

# SUCCESS is what older writers said for SUCCEEDED; NULL is unfinished.
RESULT_STATE = (
    "result_state IN ('SUCCEEDED', 'SUCCESS', 'FAILED', 'SKIPPED', 'CANCELLED',"
    " 'TIMED_OUT', 'ERROR', 'BLOCKED')"
)
TRIGGER_TYPE = (
    "trigger_type IN ('CONTINUOUS', 'CRON', 'FILE_ARRIVAL', 'ONETIME', 'ONETIME_RETRY',"
    " 'PERIODIC', 'RETRY', 'TABLE')"
)
# A clock that went backwards makes no run shorter than nothing.
SECONDS = (
    "CASE WHEN period_end_time < period_start_time THEN 0"
    " ELSE floor(EXTRACT(epoch FROM (period_end_time - period_start_time))) END"
)


class DimWorkspace(LakeflowBase):
    """A deployment: an org in an environment."""

    __tablename__ = "dim_workspace"
    __table_args__ = (
        CheckConstraint(
            "status IN ('NOT_PROVISIONED', 'PROVISIONING', 'RUNNING', 'FAILED', 'BANNED')",
            name="status",
        ),
    )

    workspace_id: Mapped[str] = mapped_column(primary_key=True)
    workspace_name: Mapped[str | None]
    account_id: Mapped[str | None]
    workspace_url: Mapped[str | None]
    create_time: Mapped[datetime | None]
    status: Mapped[str | None]


class DimJob(LakeflowBase):
    """A job of Dagster's, in one code location; `delete_time` is when it was no longer there."""

    __tablename__ = "dim_job"

    workspace_id: Mapped[str] = mapped_column(
        ForeignKey("lakeflow.dim_workspace.workspace_id"), primary_key=True
    )
    job_id: Mapped[str] = mapped_column(primary_key=True)
    job_name: Mapped[str | None]
    creator_user_name: Mapped[str | None]
    create_time: Mapped[datetime | None]
    run_as_user_name: Mapped[str | None]
    account_id: Mapped[str | None]
    description: Mapped[str | None]
    tags_json: Mapped[Json | None]
    change_time: Mapped[datetime | None]
    delete_time: Mapped[datetime | None]


class DimJobTask(LakeflowBase):
    """A step of a job: an op, or the table that a step of RAT's writes."""

    __tablename__ = "dim_job_task"
    __table_args__ = (
        ForeignKeyConstraint(
            ["workspace_id", "job_id"],
            ["lakeflow.dim_job.workspace_id", "lakeflow.dim_job.job_id"],
        ),
    )

    workspace_id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(primary_key=True)
    task_key: Mapped[str] = mapped_column(primary_key=True)
    task_type: Mapped[str | None]
    notebook_path: Mapped[str | None]
    account_id: Mapped[str | None]
    depends_on_keys_json: Mapped[Json | None]
    change_time: Mapped[datetime | None]
    delete_time: Mapped[datetime | None]


class DimPipeline(LakeflowBase):
    """A pipeline of RAT's: `pipeline_id` is `rat.pipelines.id`, its name the table that it writes."""

    __tablename__ = "dim_pipeline"
    __table_args__ = (Index("ix_dim_pipeline_name", "pipeline_name"),)

    workspace_id: Mapped[str] = mapped_column(
        ForeignKey("lakeflow.dim_workspace.workspace_id"), primary_key=True
    )
    pipeline_id: Mapped[str] = mapped_column(primary_key=True)
    pipeline_name: Mapped[str | None]
    pipeline_type: Mapped[str | None]
    creator_user_name: Mapped[str | None]
    account_id: Mapped[str | None]
    run_as: Mapped[str | None]
    tags_json: Mapped[Json | None]
    configuration_json: Mapped[Json | None]
    create_time: Mapped[datetime | None]
    change_time: Mapped[datetime | None]
    delete_time: Mapped[datetime | None]
    settings_photon: Mapped[bool | None]
    settings_development: Mapped[bool | None]
    settings_continuous: Mapped[bool | None]
    settings_serverless: Mapped[bool | None]
    settings_edition: Mapped[str | None]
    settings_channel: Mapped[str | None]


class FactJobRunTimeline(LakeflowBase):
    """A run of Dagster's: one row, from its start (asked for, until it starts) to its end."""

    __tablename__ = "fact_job_run_timeline"
    __table_args__ = (
        ForeignKeyConstraint(
            ["workspace_id", "job_id"],
            ["lakeflow.dim_job.workspace_id", "lakeflow.dim_job.job_id"],
        ),
        CheckConstraint(RESULT_STATE, name="result_state"),
        CheckConstraint(TRIGGER_TYPE, name="trigger_type"),
        CheckConstraint(
            "run_type IN ('JOB_RUN', 'SUBMIT_RUN', 'WORKFLOW_RUN')", name="run_type"
        ),
        # A window of time without touching the rows, its failures, and the runs of one job.
        Index(
            "ix_fact_job_run_timeline_time",
            "period_start_time",
            postgresql_include=[
                "workspace_id",
                "job_id",
                "period_end_time",
                "result_state",
                "run_duration_seconds",
                "trigger_type",
            ],
        ),
        # The few that may have ended since the mirror looked.
        Index(
            "ix_fact_job_run_timeline_unfinished",
            "run_id",
            postgresql_where=text("result_state IS NULL"),
        ),
        Index(
            "ix_fact_job_run_timeline_failures",
            "period_start_time",
            postgresql_include=["workspace_id", "job_id", "period_end_time"],
            postgresql_where=text("result_state IN ('FAILED', 'ERROR', 'TIMED_OUT')"),
        ),
        Index(
            "ix_fact_job_run_timeline_job",
            "workspace_id",
            "job_id",
            "period_start_time",
            postgresql_include=[
                "period_end_time",
                "result_state",
                "run_duration_seconds",
            ],
        ),
    )

    workspace_id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(primary_key=True)  # Dagster's
    job_id: Mapped[str | None]
    period_start_time: Mapped[moment]
    period_end_time: Mapped[datetime | None]
    result_state: Mapped[str | None]
    trigger_type: Mapped[str | None]
    account_id: Mapped[str | None]
    run_type: Mapped[str | None]
    run_name: Mapped[str | None]
    termination_code: Mapped[str | None]  # an open list
    compute_ids: Mapped[list[str] | None]
    job_parameters: Mapped[Json | None]
    run_date: Mapped[date] = mapped_column(
        Computed("(period_start_time AT TIME ZONE 'UTC')::date", persisted=True),
        nullable=True,
    )
    run_duration_seconds: Mapped[int | None] = mapped_column(
        BigInteger, Computed(f"({SECONDS})::bigint", persisted=True)
    )
    run_duration_minutes: Mapped[float | None] = mapped_column(
        Computed(f"({SECONDS})::double precision / 60.0", persisted=True)
    )
    is_success: Mapped[bool] = mapped_column(
        Computed(
            "COALESCE(result_state IN ('SUCCEEDED', 'SUCCESS'), false)", persisted=True
        ),
        nullable=True,
    )


class FactJobTaskRunTimeline(LakeflowBase):
    """An attempt at a step of a run; a step that never started has no times."""

    __tablename__ = "fact_job_task_run_timeline"
    __table_args__ = (
        PrimaryKeyConstraint("workspace_id", "run_id", "task_run_id"),
        ForeignKeyConstraint(
            ["workspace_id", "job_id", "task_key"],
            [
                "lakeflow.dim_job_task.workspace_id",
                "lakeflow.dim_job_task.job_id",
                "lakeflow.dim_job_task.task_key",
            ],
        ),
        CheckConstraint(RESULT_STATE, name="result_state"),
        Index("ix_fact_job_task_run_timeline_time", "period_start_time"),
        Index(
            "ix_fact_job_task_run_timeline_task",
            "workspace_id",
            "job_id",
            "task_key",
            "period_start_time",
        ),
    )

    workspace_id: Mapped[str]
    run_id: Mapped[str]  # the job's run
    task_run_id: Mapped[str]  # {run_id}:{step_key}:{attempt}
    job_id: Mapped[str | None]
    task_key: Mapped[str | None]
    period_start_time: Mapped[datetime | None]
    result_state: Mapped[str | None]
    account_id: Mapped[str | None]
    period_end_time: Mapped[datetime | None]
    parent_run_id: Mapped[str | None]
    termination_code: Mapped[str | None]
    compute_ids_json: Mapped[Json | None]


class FactPipelineUpdateTimeline(LakeflowBase):
    """An attempt at a pipeline: `update_id` is `rat.runs.id`; retries share the `request_id`."""

    __tablename__ = "fact_pipeline_update_timeline"
    __table_args__ = (
        PrimaryKeyConstraint("workspace_id", "update_id"),
        ForeignKeyConstraint(
            ["workspace_id", "pipeline_id"],
            ["lakeflow.dim_pipeline.workspace_id", "lakeflow.dim_pipeline.pipeline_id"],
        ),
        CheckConstraint(
            "state IN ('QUEUED', 'RUNNING', 'COMPLETED', 'FAILED', 'CANCELED')",
            name="state",
        ),
        CheckConstraint(TRIGGER_TYPE, name="trigger_type"),
        CheckConstraint(
            "update_type IN ('FULL_REFRESH', 'REFRESH', 'VALIDATE')", name="update_type"
        ),
        Index("ix_fact_pipeline_update_timeline_time", "period_start_time"),
        Index(
            "ix_fact_pipeline_update_timeline_pipeline",
            "workspace_id",
            "pipeline_id",
            "period_start_time",
        ),
    )

    workspace_id: Mapped[str]
    pipeline_id: Mapped[str | None]
    update_id: Mapped[str]
    period_start_time: Mapped[moment]
    state: Mapped[str]
    account_id: Mapped[str | None]
    period_end_time: Mapped[datetime | None]
    update_type: Mapped[str | None]
    request_id: Mapped[str | None]
    run_as_user_name: Mapped[str | None]
    trigger_type: Mapped[str | None]
    trigger_details_job_task: Mapped[Json | None]
    compute_type: Mapped[str | None]
    compute_cluster_id: Mapped[str | None]
    refresh_selection_json: Mapped[Json | None]
    full_refresh_selection_json: Mapped[Json | None]
    reset_checkpoint_selection_json: Mapped[Json | None]
    result_state: Mapped[str | None] = mapped_column(
        Computed(
            "CASE WHEN state IN ('COMPLETED', 'FAILED', 'CANCELED') THEN state END",
            persisted=True,
        )
    )
