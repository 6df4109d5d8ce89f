"""What the published tables look like. Safe: only new tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

revision = "0007_catalog"
down_revision = "0006_automation"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "iceberg_tables",
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("layer", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("row_count", sa.BigInteger(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("snapshot_id", sa.BigInteger(), nullable=True),
        sa.Column("metadata_location", sa.Text(), nullable=False),
        sa.Column(
            "updated_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("namespace", "layer", "name", name="pk_iceberg_tables"),
        schema="rat",
    )
    op.create_table(
        "table_metadata",
        sa.Column(
            "id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False
        ),
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("layer", sa.String(10), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("owner", sa.String(255), nullable=True),
        sa.Column("column_descriptions", JSONB(), server_default="{}", nullable=False),
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
        sa.PrimaryKeyConstraint("id", name="pk_table_metadata"),
        sa.UniqueConstraint(
            "namespace", "layer", "name", name="uq_table_metadata_namespace_layer_name"
        ),
        schema="rat",
    )
    op.create_table(
        "iceberg_columns",
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("layer", sa.Text(), nullable=False),
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("nullable", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint(
            "namespace", "layer", "table_name", "name", name="pk_iceberg_columns"
        ),
        sa.ForeignKeyConstraint(
            ["namespace", "layer", "table_name"],
            [
                "rat.iceberg_tables.namespace",
                "rat.iceberg_tables.layer",
                "rat.iceberg_tables.name",
            ],
            name="fk_iceberg_columns_namespace_layer_table_name",
            ondelete="CASCADE",
        ),
        schema="rat",
    )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("iceberg_columns", schema="rat")
    op.drop_table("table_metadata", schema="rat")
    op.drop_table("iceberg_tables", schema="rat")
