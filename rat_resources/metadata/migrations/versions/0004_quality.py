"""Quality tests and their results. Safe: only new tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP

revision = "0004_quality"
down_revision = "0003_runs"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "quality_tests",
        sa.Column(
            "id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False
        ),
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("severity", sa.String(10), server_default="error", nullable=False),
        sa.Column("s3_path", sa.String(1024), server_default="", nullable=False),
        sa.Column("tags", ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("remediation", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "created_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("active", sa.Boolean(), server_default="true", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_quality_tests"),
        sa.CheckConstraint(
            "severity IN ('error', 'warn')", name=op.f("ck_quality_tests_severity")
        ),
        sa.ForeignKeyConstraint(
            ["pipeline_id"],
            ["rat.pipelines.id"],
            name="fk_quality_tests_pipeline_id",
            ondelete="CASCADE",
        ),
        sa.UniqueConstraint(
            "pipeline_id", "name", name="uq_quality_tests_pipeline_id_name"
        ),
        schema="rat",
    )
    op.create_table(
        "quality_results",
        sa.Column(
            "id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False
        ),
        sa.Column("test_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("value", sa.Numeric(), nullable=True),
        sa.Column("duration_ms", sa.Integer(), nullable=True),
        sa.Column(
            "ran_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.Column("sample", JSONB(), nullable=True),
        sa.Column("compiled_sql", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_quality_results"),
        sa.CheckConstraint(
            "duration_ms >= 0", name=op.f("ck_quality_results_duration_ms")
        ),
        sa.CheckConstraint(
            "status IN ('passed', 'failed', 'warned', 'error')",
            name=op.f("ck_quality_results_status"),
        ),
        sa.CheckConstraint("value >= 0", name=op.f("ck_quality_results_value")),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["rat.runs.id"],
            name="fk_quality_results_run_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["test_id"],
            ["rat.quality_tests.id"],
            name="fk_quality_results_test_id",
            ondelete="CASCADE",
        ),
        sa.UniqueConstraint(
            "test_id", "run_id", name="uq_quality_results_test_id_run_id"
        ),
        schema="rat",
    )
    op.create_index(
        "ix_quality_results_history",
        "quality_results",
        ["test_id", "ran_at"],
        schema="rat",
    )
    op.create_index(
        "ix_quality_results_run", "quality_results", ["run_id"], schema="rat"
    )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("quality_results", schema="rat")
    op.drop_table("quality_tests", schema="rat")
