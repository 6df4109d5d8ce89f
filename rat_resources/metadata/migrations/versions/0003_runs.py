"""Runs, their pins, publications and leases. Safe: only new tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

revision = "0003_runs"
down_revision = "0002_pipelines"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "leases",
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("holder", sa.Uuid(), nullable=True),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("heartbeat_at", TIMESTAMP(timezone=True), nullable=True),
        sa.Column("expires_at", TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("pipeline_id", name="pk_leases"),
        sa.ForeignKeyConstraint(
            ["pipeline_id"],
            ["rat.pipelines.id"],
            name="fk_leases_pipeline_id",
            ondelete="CASCADE",
        ),
        schema="rat",
    )
    op.create_table(
        "runs",
        sa.Column(
            "id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False
        ),
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.String(20), server_default="pending", nullable=False),
        sa.Column("trigger", sa.String(1024), server_default="manual", nullable=False),
        sa.Column("started_at", TIMESTAMP(timezone=True), nullable=True),
        sa.Column("finished_at", TIMESTAMP(timezone=True), nullable=True),
        sa.Column("duration_ms", sa.Integer(), nullable=True),
        sa.Column("rows_written", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("logs_s3_path", sa.String(1024), nullable=True),
        sa.Column("logs", JSONB(), nullable=True),
        sa.Column("phase_profiles", JSONB(), nullable=True),
        sa.Column(
            "created_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("dagster_run_id", sa.String(63), nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="1", nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=True),
        sa.Column("fence", sa.BigInteger(), nullable=True),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("branch", sa.Text(), nullable=True),
        sa.Column("base_commit", sa.Text(), nullable=True),
        sa.Column("commit", sa.Text(), nullable=True),
        sa.Column("snapshot_id", sa.BigInteger(), nullable=True),
        sa.Column("rows_total", sa.BigInteger(), nullable=True),
        sa.Column("unchanged", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("full_refresh", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("settings", JSONB(), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
        sa.CheckConstraint("duration_ms >= 0", name=op.f("ck_runs_duration_ms")),
        sa.CheckConstraint(
            "(status IN ('success', 'failed', 'cancelled')) = (finished_at IS NOT NULL)",
            name=op.f("ck_runs_finished"),
        ),
        sa.CheckConstraint("rows_written >= 0", name=op.f("ck_runs_rows_written")),
        sa.CheckConstraint(
            "status IN ('pending', 'running', 'success', 'failed', 'cancelled')",
            name=op.f("ck_runs_status"),
        ),
        sa.ForeignKeyConstraint(
            ["pipeline_id"],
            ["rat.pipelines.id"],
            name="fk_runs_pipeline_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["rat.pipeline_versions.id"],
            name="fk_runs_version_id",
            ondelete="SET NULL",
        ),
        schema="rat",
    )
    op.create_index(
        "ix_runs_active",
        "runs",
        ["status"],
        schema="rat",
        postgresql_where=sa.text("status IN ('pending', 'running')"),
    )
    op.create_index("ix_runs_dagster", "runs", ["dagster_run_id"], schema="rat")
    op.create_index(
        "ix_runs_history",
        "runs",
        ["pipeline_id", sa.text("created_at DESC")],
        schema="rat",
    )
    op.create_table(
        "publications",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.String(20), server_default="intended", nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("from_hash", sa.Text(), nullable=False),
        sa.Column("expected_main", sa.Text(), nullable=False),
        sa.Column("facts", JSONB(), nullable=False),
        sa.Column(
            "created_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("published_at", TIMESTAMP(timezone=True), nullable=True),
        sa.Column("closed_at", TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("run_id", name="pk_publications"),
        sa.CheckConstraint(
            "state IN ('intended', 'published', 'closed', 'undone')",
            name=op.f("ck_publications_state"),
        ),
        sa.ForeignKeyConstraint(
            ["pipeline_id"],
            ["rat.pipelines.id"],
            name="fk_publications_pipeline_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["rat.runs.id"],
            name="fk_publications_run_id",
            ondelete="CASCADE",
        ),
        schema="rat",
    )
    op.create_index(
        "ix_publications_open",
        "publications",
        ["pipeline_id"],
        schema="rat",
        postgresql_where=sa.text("state IN ('intended', 'published')"),
    )
    op.create_table(
        "run_inputs",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("layer", sa.String(10), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("metadata_location", sa.Text(), nullable=False),
        sa.Column("snapshot_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint(
            "run_id", "namespace", "layer", "name", name="pk_run_inputs"
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["rat.runs.id"], name="fk_run_inputs_run_id", ondelete="CASCADE"
        ),
        schema="rat",
    )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("run_inputs", schema="rat")
    op.drop_table("publications", schema="rat")
    op.drop_table("runs", schema="rat")
    op.drop_table("leases", schema="rat")
