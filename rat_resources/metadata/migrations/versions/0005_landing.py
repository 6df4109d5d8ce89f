"""Landing zones, their files and who consumed them. Safe: only new tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

revision = "0005_landing"
down_revision = "0004_quality"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "landing_zones",
        sa.Column(
            "id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False
        ),
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("owner", sa.String(255), nullable=True),
        sa.Column("expected_schema", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "created_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("expected_columns", JSONB(), nullable=True),
        sa.Column("archive", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("auto_purge", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("active", sa.Boolean(), server_default="true", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_landing_zones"),
        sa.ForeignKeyConstraint(
            ["namespace"],
            ["rat.namespaces.name"],
            name="fk_landing_zones_namespace",
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        sa.UniqueConstraint(
            "namespace", "name", name="uq_landing_zones_namespace_name"
        ),
        schema="rat",
    )
    op.create_table(
        "landing_files",
        sa.Column(
            "id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False
        ),
        sa.Column("zone_id", sa.Uuid(), nullable=False),
        sa.Column("filename", sa.String(1024), nullable=False),
        sa.Column("s3_path", sa.String(4096), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("content_type", sa.String(128), server_default="", nullable=False),
        sa.Column(
            "uploaded_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("mark", sa.Text(), nullable=False),
        sa.Column("state", sa.String(10), server_default="present", nullable=False),
        sa.Column("moved_to", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_landing_files"),
        sa.CheckConstraint("size_bytes >= 0", name=op.f("ck_landing_files_size_bytes")),
        sa.CheckConstraint(
            "state IN ('present', 'replaced', 'archived', 'rejected', 'gone')",
            name=op.f("ck_landing_files_state"),
        ),
        sa.ForeignKeyConstraint(
            ["zone_id"],
            ["rat.landing_zones.id"],
            name="fk_landing_files_zone_id",
            ondelete="CASCADE",
        ),
        sa.UniqueConstraint(
            "zone_id",
            "s3_path",
            "version",
            name="uq_landing_files_zone_id_s3_path_version",
        ),
        schema="rat",
    )
    op.create_index(
        "ix_landing_files_zone",
        "landing_files",
        ["zone_id", "uploaded_at"],
        schema="rat",
    )
    op.create_table(
        "landing_claims",
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("version_id", sa.Uuid(), nullable=True),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "updated_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("committed_at", TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("file_id", "pipeline_id", name="pk_landing_claims"),
        sa.CheckConstraint(
            "state IN ('claimed', 'committed', 'waiting')",
            name=op.f("ck_landing_claims_state"),
        ),
        sa.ForeignKeyConstraint(
            ["file_id"],
            ["rat.landing_files.id"],
            name="fk_landing_claims_file_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["pipeline_id"],
            ["rat.pipelines.id"],
            name="fk_landing_claims_pipeline_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["rat.runs.id"],
            name="fk_landing_claims_run_id",
            ondelete="SET NULL",
        ),
        schema="rat",
    )
    op.create_index(
        "ix_landing_claims_pipeline",
        "landing_claims",
        ["pipeline_id", "state"],
        schema="rat",
    )
    op.create_index("ix_landing_claims_run", "landing_claims", ["run_id"], schema="rat")
    op.create_table(
        "run_files",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "file_id", name="pk_run_files"),
        sa.ForeignKeyConstraint(
            ["file_id"],
            ["rat.landing_files.id"],
            name="fk_run_files_file_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["rat.runs.id"], name="fk_run_files_run_id", ondelete="CASCADE"
        ),
        schema="rat",
    )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("run_files", schema="rat")
    op.drop_table("landing_claims", schema="rat")
    op.drop_table("landing_files", schema="rat")
    op.drop_table("landing_zones", schema="rat")
