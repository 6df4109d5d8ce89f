"""Where the columns of published tables take their values from. Safe: only new tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP

revision = "0010_lineage"
down_revision = "0009_lake"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "traced_tables",
        sa.Column("dataset", sa.Text(), nullable=False),
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("columns", ARRAY(sa.Text()), nullable=False),
        sa.Column("untold", ARRAY(sa.Text()), nullable=False),
        sa.Column("query_hash", sa.Text(), nullable=False),
        sa.Column("probes", JSONB(), server_default="{}", nullable=False),
        sa.Column(
            "updated_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("dataset", name="pk_traced_tables"),
        sa.ForeignKeyConstraint(
            ["pipeline_id"],
            ["rat.pipelines.id"],
            name="fk_traced_tables_pipeline_id",
            ondelete="CASCADE",
        ),
        schema="rat",
    )
    op.create_table(
        "column_lineage",
        sa.Column("output_dataset", sa.Text(), nullable=False),
        sa.Column("output_column", sa.Text(), nullable=False),
        sa.Column("input_dataset", sa.Text(), nullable=False),
        sa.Column("input_column", sa.Text(), nullable=False),
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint(
            "output_dataset",
            "output_column",
            "input_dataset",
            "input_column",
            name="pk_column_lineage",
        ),
        sa.ForeignKeyConstraint(
            ["output_dataset"],
            ["rat.traced_tables.dataset"],
            name="fk_column_lineage_output_dataset",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["pipeline_id"],
            ["rat.pipelines.id"],
            name="fk_column_lineage_pipeline_id",
            ondelete="CASCADE",
        ),
        schema="rat",
    )
    op.create_index(
        "ix_column_lineage_input",
        "column_lineage",
        ["input_dataset", "input_column"],
        schema="rat",
    )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("column_lineage", schema="rat")
    op.drop_table("traced_tables", schema="rat")
