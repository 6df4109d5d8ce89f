"""Schedules, triggers and wishes. Safe: only new tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

revision = "0006_automation"
down_revision = "0005_landing"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "pipeline_triggers",
        sa.Column(
            "id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False
        ),
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.String(50), nullable=False),
        sa.Column("config", JSONB(), server_default="{}", nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("cooldown_seconds", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_run_id", sa.Uuid(), nullable=True),
        sa.Column("last_triggered_at", TIMESTAMP(timezone=True), nullable=True),
        sa.Column(
            "created_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name="pk_pipeline_triggers"),
        sa.CheckConstraint(
            "cooldown_seconds >= 0", name=op.f("ck_pipeline_triggers_cooldown_seconds")
        ),
        sa.ForeignKeyConstraint(
            ["last_run_id"],
            ["rat.runs.id"],
            name="fk_pipeline_triggers_last_run_id",
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["pipeline_id"],
            ["rat.pipelines.id"],
            name="fk_pipeline_triggers_pipeline_id",
            ondelete="CASCADE",
        ),
        schema="rat",
    )
    op.create_index(
        "ix_pipeline_triggers_pipeline",
        "pipeline_triggers",
        ["pipeline_id"],
        schema="rat",
    )
    op.create_index(
        "ix_pipeline_triggers_type",
        "pipeline_triggers",
        ["type"],
        schema="rat",
        postgresql_where=sa.text("enabled"),
    )
    op.create_table(
        "schedules",
        sa.Column(
            "id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False
        ),
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("cron_expr", sa.String(100), nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("last_run_id", sa.Uuid(), nullable=True),
        sa.Column("last_run_at", TIMESTAMP(timezone=True), nullable=True),
        sa.Column("next_run_at", TIMESTAMP(timezone=True), nullable=True),
        sa.Column("timezone", sa.String(63), server_default="UTC", nullable=False),
        sa.Column("catch_up", sa.String(10), server_default="last", nullable=False),
        sa.Column("overlap", sa.String(10), server_default="wait", nullable=False),
        sa.Column(
            "created_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name="pk_schedules"),
        sa.CheckConstraint(
            "catch_up IN ('last', 'all', 'none')", name=op.f("ck_schedules_catch_up")
        ),
        sa.CheckConstraint(
            "overlap IN ('wait', 'skip')", name=op.f("ck_schedules_overlap")
        ),
        sa.ForeignKeyConstraint(
            ["last_run_id"],
            ["rat.runs.id"],
            name="fk_schedules_last_run_id",
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["pipeline_id"],
            ["rat.pipelines.id"],
            name="fk_schedules_pipeline_id",
            ondelete="CASCADE",
        ),
        sa.UniqueConstraint(
            "pipeline_id",
            "cron_expr",
            "timezone",
            name="uq_schedules_pipeline_id_cron_expr_timezone",
        ),
        schema="rat",
    )
    op.create_index(
        "ix_schedules_due",
        "schedules",
        ["next_run_at"],
        schema="rat",
        postgresql_where=sa.text("enabled"),
    )
    op.create_table(
        "wishes",
        sa.Column(
            "id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False
        ),
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("label", sa.String(1024), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("state", sa.String(10), server_default="waiting", nullable=False),
        sa.Column(
            "due_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "created_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("run_key", sa.Text(), nullable=True),
        sa.Column("requested_at", TIMESTAMP(timezone=True), nullable=True),
        sa.Column("dagster_run_id", sa.String(63), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("finished_at", TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_wishes"),
        sa.CheckConstraint(
            "state IN ('waiting', 'requested', 'taken', 'done')",
            name=op.f("ck_wishes_state"),
        ),
        sa.ForeignKeyConstraint(
            ["pipeline_id"],
            ["rat.pipelines.id"],
            name="fk_wishes_pipeline_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["rat.runs.id"], name="fk_wishes_run_id", ondelete="SET NULL"
        ),
        sa.UniqueConstraint(
            "pipeline_id", "reason", name="uq_wishes_pipeline_id_reason"
        ),
        schema="rat",
    )
    op.create_index(
        "ix_wishes_asked",
        "wishes",
        ["run_key"],
        schema="rat",
        postgresql_where=sa.text("state = 'requested'"),
    )
    op.create_index(
        "ix_wishes_due",
        "wishes",
        ["due_at"],
        schema="rat",
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_index(
        "ix_wishes_open",
        "wishes",
        ["pipeline_id"],
        schema="rat",
        postgresql_where=sa.text("state <> 'done'"),
    )
    op.create_index(
        "ix_wishes_run",
        "wishes",
        ["dagster_run_id"],
        schema="rat",
        postgresql_where=sa.text("state <> 'done'"),
    )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("wishes", schema="rat")
    op.drop_table("schedules", schema="rat")
    op.drop_table("pipeline_triggers", schema="rat")
