"""The reporting star: the document of Lakeflow. Safe: only a new schema.

The views in the gold names and the functions of the metrics are the SQL file beside this one.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

from rat_resources.metadata.migrations import ensure_schema

revision = "0015_lakeflow"
down_revision = "0014_chm"

VIEWS_AND_FUNCTIONS = Path(__file__).with_suffix(".sql")

RESULT_STATE = (
    "result_state IN ('SUCCEEDED', 'SUCCESS', 'FAILED', 'SKIPPED', 'CANCELLED',"
    " 'TIMED_OUT', 'ERROR', 'BLOCKED')"
)
TRIGGER_TYPE = (
    "trigger_type IN ('CONTINUOUS', 'CRON', 'FILE_ARRIVAL', 'ONETIME', 'ONETIME_RETRY',"
    " 'PERIODIC', 'RETRY', 'TABLE')"
)
SECONDS = (
    "CASE WHEN period_end_time < period_start_time THEN 0"
    " ELSE floor(EXTRACT(epoch FROM (period_end_time - period_start_time))) END"
)


def upgrade() -> None:
    """Create the schema, its tables, and what is asked of them."""
    ensure_schema(op.get_bind(), "lakeflow")
    create_dimensions()
    create_facts()
    # Many statements at once, in which colons mean themselves.
    op.get_bind().exec_driver_sql(VIEWS_AND_FUNCTIONS.read_text())


def downgrade() -> None:
    """Drop the schema."""
    op.execute("DROP SCHEMA lakeflow CASCADE")


def create_dimensions() -> None:
    """What there is: workspaces, jobs and their tasks, pipelines."""
    op.create_table(
        "dim_workspace",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("workspace_name", sa.Text()),
        sa.Column("account_id", sa.Text()),
        sa.Column("workspace_url", sa.Text()),
        sa.Column("create_time", TIMESTAMP(timezone=True)),
        sa.Column("status", sa.Text()),
        sa.CheckConstraint(
            "status IN ('NOT_PROVISIONED', 'PROVISIONING', 'RUNNING', 'FAILED', 'BANNED')",
            name="ck_dim_workspace_status",
        ),
        sa.PrimaryKeyConstraint("workspace_id", name="pk_dim_workspace"),
        schema="lakeflow",
    )
    op.create_table(
        "dim_job",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("job_name", sa.Text()),
        sa.Column("creator_user_name", sa.Text()),
        sa.Column("create_time", TIMESTAMP(timezone=True)),
        sa.Column("run_as_user_name", sa.Text()),
        sa.Column("account_id", sa.Text()),
        sa.Column("description", sa.Text()),
        sa.Column("tags_json", JSONB()),
        sa.Column("change_time", TIMESTAMP(timezone=True)),
        sa.Column("delete_time", TIMESTAMP(timezone=True)),
        sa.ForeignKeyConstraint(
            ["workspace_id"],
            ["lakeflow.dim_workspace.workspace_id"],
            name="fk_dim_job_workspace_id",
        ),
        sa.PrimaryKeyConstraint("workspace_id", "job_id", name="pk_dim_job"),
        schema="lakeflow",
    )
    op.create_table(
        "dim_pipeline",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("pipeline_id", sa.Text(), nullable=False),
        sa.Column("pipeline_name", sa.Text()),
        sa.Column("pipeline_type", sa.Text()),
        sa.Column("creator_user_name", sa.Text()),
        sa.Column("account_id", sa.Text()),
        sa.Column("run_as", sa.Text()),
        sa.Column("tags_json", JSONB()),
        sa.Column("configuration_json", JSONB()),
        sa.Column("create_time", TIMESTAMP(timezone=True)),
        sa.Column("change_time", TIMESTAMP(timezone=True)),
        sa.Column("delete_time", TIMESTAMP(timezone=True)),
        sa.Column("settings_photon", sa.Boolean()),
        sa.Column("settings_development", sa.Boolean()),
        sa.Column("settings_continuous", sa.Boolean()),
        sa.Column("settings_serverless", sa.Boolean()),
        sa.Column("settings_edition", sa.Text()),
        sa.Column("settings_channel", sa.Text()),
        sa.ForeignKeyConstraint(
            ["workspace_id"],
            ["lakeflow.dim_workspace.workspace_id"],
            name="fk_dim_pipeline_workspace_id",
        ),
        sa.PrimaryKeyConstraint("workspace_id", "pipeline_id", name="pk_dim_pipeline"),
        schema="lakeflow",
    )
    op.create_index(
        "ix_dim_pipeline_name", "dim_pipeline", ["pipeline_name"], schema="lakeflow"
    )
    op.create_table(
        "dim_job_task",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("task_key", sa.Text(), nullable=False),
        sa.Column("task_type", sa.Text()),
        sa.Column("notebook_path", sa.Text()),
        sa.Column("account_id", sa.Text()),
        sa.Column("depends_on_keys_json", JSONB()),
        sa.Column("change_time", TIMESTAMP(timezone=True)),
        sa.Column("delete_time", TIMESTAMP(timezone=True)),
        sa.ForeignKeyConstraint(
            ["workspace_id", "job_id"],
            ["lakeflow.dim_job.workspace_id", "lakeflow.dim_job.job_id"],
            name="fk_dim_job_task_workspace_id_job_id",
        ),
        sa.PrimaryKeyConstraint(
            "workspace_id", "job_id", "task_key", name="pk_dim_job_task"
        ),
        schema="lakeflow",
    )


def create_facts() -> None:
    """What happened: a row for each run."""
    op.create_table(
        "fact_job_run_timeline",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text()),
        sa.Column("period_start_time", TIMESTAMP(timezone=True), nullable=False),
        sa.Column("period_end_time", TIMESTAMP(timezone=True)),
        sa.Column("result_state", sa.Text()),
        sa.Column("trigger_type", sa.Text()),
        sa.Column("account_id", sa.Text()),
        sa.Column("run_type", sa.Text()),
        sa.Column("run_name", sa.Text()),
        sa.Column("termination_code", sa.Text()),
        sa.Column("compute_ids", sa.ARRAY(sa.Text())),
        sa.Column("job_parameters", JSONB()),
        sa.Column(
            "run_date",
            sa.Date(),
            sa.Computed("(period_start_time AT TIME ZONE 'UTC')::date", persisted=True),
        ),
        sa.Column(
            "run_duration_seconds",
            sa.BigInteger(),
            sa.Computed(
                f"({SECONDS})::bigint",
                persisted=True,
            ),
        ),
        sa.Column(
            "run_duration_minutes",
            sa.Double(),
            sa.Computed(
                f"({SECONDS})::double precision / 60.0",
                persisted=True,
            ),
        ),
        sa.Column(
            "is_success",
            sa.Boolean(),
            sa.Computed(
                "COALESCE(result_state IN ('SUCCEEDED', 'SUCCESS'), false)",
                persisted=True,
            ),
        ),
        sa.CheckConstraint(
            RESULT_STATE,
            name="ck_fact_job_run_timeline_result_state",
        ),
        sa.CheckConstraint(
            "run_type IN ('JOB_RUN', 'SUBMIT_RUN', 'WORKFLOW_RUN')",
            name="ck_fact_job_run_timeline_run_type",
        ),
        sa.CheckConstraint(
            TRIGGER_TYPE,
            name="ck_fact_job_run_timeline_trigger_type",
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id", "job_id"],
            ["lakeflow.dim_job.workspace_id", "lakeflow.dim_job.job_id"],
            name="fk_fact_job_run_timeline_workspace_id_job_id",
        ),
        sa.PrimaryKeyConstraint(
            "workspace_id", "run_id", name="pk_fact_job_run_timeline"
        ),
        schema="lakeflow",
    )
    op.create_index(
        "ix_fact_job_run_timeline_failures",
        "fact_job_run_timeline",
        ["period_start_time"],
        schema="lakeflow",
        postgresql_include=["workspace_id", "job_id", "period_end_time"],
        postgresql_where=sa.text("result_state IN ('FAILED', 'ERROR', 'TIMED_OUT')"),
    )
    op.create_index(
        "ix_fact_job_run_timeline_job",
        "fact_job_run_timeline",
        ["workspace_id", "job_id", "period_start_time"],
        schema="lakeflow",
        postgresql_include=["period_end_time", "result_state", "run_duration_seconds"],
    )
    op.create_index(
        "ix_fact_job_run_timeline_time",
        "fact_job_run_timeline",
        ["period_start_time"],
        schema="lakeflow",
        postgresql_include=[
            "workspace_id",
            "job_id",
            "period_end_time",
            "result_state",
            "run_duration_seconds",
            "trigger_type",
        ],
    )
    op.create_table(
        "fact_pipeline_update_timeline",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("pipeline_id", sa.Text()),
        sa.Column("update_id", sa.Text(), nullable=False),
        sa.Column("period_start_time", TIMESTAMP(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text()),
        sa.Column("period_end_time", TIMESTAMP(timezone=True)),
        sa.Column("update_type", sa.Text()),
        sa.Column("request_id", sa.Text()),
        sa.Column("run_as_user_name", sa.Text()),
        sa.Column("trigger_type", sa.Text()),
        sa.Column("trigger_details_job_task", JSONB()),
        sa.Column("compute_type", sa.Text()),
        sa.Column("compute_cluster_id", sa.Text()),
        sa.Column("refresh_selection_json", JSONB()),
        sa.Column("full_refresh_selection_json", JSONB()),
        sa.Column("reset_checkpoint_selection_json", JSONB()),
        sa.Column(
            "result_state",
            sa.Text(),
            sa.Computed(
                "CASE WHEN state IN ('COMPLETED', 'FAILED', 'CANCELED') THEN state END",
                persisted=True,
            ),
        ),
        sa.CheckConstraint(
            "state IN ('QUEUED', 'RUNNING', 'COMPLETED', 'FAILED', 'CANCELED')",
            name="ck_fact_pipeline_update_timeline_state",
        ),
        sa.CheckConstraint(
            TRIGGER_TYPE,
            name="ck_fact_pipeline_update_timeline_trigger_type",
        ),
        sa.CheckConstraint(
            "update_type IN ('FULL_REFRESH', 'REFRESH', 'VALIDATE')",
            name="ck_fact_pipeline_update_timeline_update_type",
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id", "pipeline_id"],
            ["lakeflow.dim_pipeline.workspace_id", "lakeflow.dim_pipeline.pipeline_id"],
            name="fk_fact_pipeline_update_timeline_workspace_id_pipeline_id",
        ),
        sa.PrimaryKeyConstraint(
            "workspace_id", "update_id", name="pk_fact_pipeline_update_timeline"
        ),
        schema="lakeflow",
    )
    op.create_index(
        "ix_fact_pipeline_update_timeline_pipeline",
        "fact_pipeline_update_timeline",
        ["workspace_id", "pipeline_id", "period_start_time"],
        schema="lakeflow",
    )
    op.create_index(
        "ix_fact_pipeline_update_timeline_time",
        "fact_pipeline_update_timeline",
        ["period_start_time"],
        schema="lakeflow",
    )
    op.create_table(
        "fact_job_task_run_timeline",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("task_run_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text()),
        sa.Column("task_key", sa.Text()),
        sa.Column("period_start_time", TIMESTAMP(timezone=True)),
        sa.Column("result_state", sa.Text()),
        sa.Column("account_id", sa.Text()),
        sa.Column("period_end_time", TIMESTAMP(timezone=True)),
        sa.Column("parent_run_id", sa.Text()),
        sa.Column("termination_code", sa.Text()),
        sa.Column("compute_ids_json", JSONB()),
        sa.CheckConstraint(
            RESULT_STATE,
            name="ck_fact_job_task_run_timeline_result_state",
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id", "job_id", "task_key"],
            [
                "lakeflow.dim_job_task.workspace_id",
                "lakeflow.dim_job_task.job_id",
                "lakeflow.dim_job_task.task_key",
            ],
            name="fk_fact_job_task_run_timeline_workspace_id_job_id_task_key",
        ),
        sa.PrimaryKeyConstraint(
            "workspace_id",
            "run_id",
            "task_run_id",
            name="pk_fact_job_task_run_timeline",
        ),
        schema="lakeflow",
    )
    op.create_index(
        "ix_fact_job_task_run_timeline_task",
        "fact_job_task_run_timeline",
        ["workspace_id", "job_id", "task_key", "period_start_time"],
        schema="lakeflow",
    )
    op.create_index(
        "ix_fact_job_task_run_timeline_time",
        "fact_job_task_run_timeline",
        ["period_start_time"],
        schema="lakeflow",
    )
