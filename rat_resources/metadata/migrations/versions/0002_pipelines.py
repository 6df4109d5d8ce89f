"""Pipelines, their versions and releases. Safe: only new tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

revision = "0002_pipelines"
down_revision = "0001_schemas"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "namespaces",
        sa.Column(
            "id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False
        ),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("created_by", sa.String(255), nullable=True),
        sa.Column(
            "created_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name="pk_namespaces"),
        sa.UniqueConstraint("name", name="uq_namespaces_name"),
        schema="rat",
    )
    op.create_table(
        "releases",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.Column("published_by", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "created_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("number", name="pk_releases"),
        schema="rat",
    )
    op.create_table(
        "current_release",
        sa.Column(
            "id", sa.Integer(), server_default="1", autoincrement=False, nullable=False
        ),
        sa.Column("release_number", sa.Integer(), nullable=True),
        sa.Column(
            "updated_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name="pk_current_release"),
        sa.CheckConstraint("id = 1", name=op.f("ck_current_release_singleton")),
        sa.ForeignKeyConstraint(
            ["release_number"],
            ["rat.releases.number"],
            name="fk_current_release_release_number",
        ),
        schema="rat",
    )
    op.create_table(
        "pipelines",
        sa.Column(
            "id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False
        ),
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("layer", sa.String(10), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("type", sa.String(10), server_default="sql", nullable=False),
        sa.Column("s3_path", sa.String(1024), server_default="", nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("owner", sa.String(255), nullable=True),
        sa.Column("published_versions", JSONB(), server_default="{}", nullable=False),
        sa.Column("draft_dirty", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("max_versions", sa.Integer(), server_default="50", nullable=False),
        sa.Column("published_at", TIMESTAMP(timezone=True), nullable=True),
        sa.Column("deleted_at", TIMESTAMP(timezone=True), nullable=True),
        sa.Column(
            "created_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name="pk_pipelines"),
        sa.CheckConstraint(
            "layer IN ('bronze', 'silver', 'gold')", name=op.f("ck_pipelines_layer")
        ),
        sa.CheckConstraint("max_versions > 0", name=op.f("ck_pipelines_max_versions")),
        sa.CheckConstraint("type IN ('sql', 'python')", name=op.f("ck_pipelines_type")),
        sa.ForeignKeyConstraint(
            ["namespace"],
            ["rat.namespaces.name"],
            name="fk_pipelines_namespace",
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        schema="rat",
    )
    op.create_index(
        "uq_pipelines_live_name",
        "pipelines",
        ["namespace", "layer", "name"],
        schema="rat",
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "pipeline_versions",
        sa.Column(
            "id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False
        ),
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("version_number", sa.Integer(), nullable=False),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.Column("published_versions", JSONB(), server_default="{}", nullable=False),
        sa.Column(
            "created_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("release_number", sa.Integer(), nullable=False),
        sa.Column("spec", JSONB(), nullable=False),
        sa.Column("code_version", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_pipeline_versions"),
        sa.ForeignKeyConstraint(
            ["pipeline_id"],
            ["rat.pipelines.id"],
            name="fk_pipeline_versions_pipeline_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["release_number"],
            ["rat.releases.number"],
            name="fk_pipeline_versions_release_number",
        ),
        sa.UniqueConstraint(
            "pipeline_id",
            "version_number",
            name="uq_pipeline_versions_pipeline_id_version_number",
        ),
        schema="rat",
    )
    op.create_index(
        "ix_pipeline_versions_release",
        "pipeline_versions",
        ["pipeline_id", "release_number"],
        schema="rat",
    )
    op.create_table(
        "retired_pipelines",
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("release_number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint(
            "pipeline_id", "release_number", name="pk_retired_pipelines"
        ),
        sa.ForeignKeyConstraint(
            ["pipeline_id"],
            ["rat.pipelines.id"],
            name="fk_retired_pipelines_pipeline_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["release_number"],
            ["rat.releases.number"],
            name="fk_retired_pipelines_release_number",
        ),
        schema="rat",
    )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("retired_pipelines", schema="rat")
    op.drop_table("pipeline_versions", schema="rat")
    op.drop_table("pipelines", schema="rat")
    op.drop_table("current_release", schema="rat")
    op.drop_table("releases", schema="rat")
    op.drop_table("namespaces", schema="rat")
