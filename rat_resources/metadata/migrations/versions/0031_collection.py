"""What the collector of files knows. Safe: only new tables, which hold nothing until it runs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

revision = "0031_collection"
down_revision = "0030_maintenance"

MOMENT = TIMESTAMP(timezone=True)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "warehouses",
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("identity", sa.Uuid(), nullable=False),
        sa.Column("marked_at", MOMENT, nullable=True),
        sa.Column("history_since", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("location", name="pk_warehouses"),
        schema="rat",
    )
    op.create_table(
        "lake_folders",
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("table", sa.Text(), nullable=False),
        sa.Column("seen_at", MOMENT, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("location", name="pk_lake_folders"),
        schema="rat",
    )
    op.create_table(
        "unused_files",
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("noted_at", MOMENT, nullable=False),
        sa.Column("seen_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("location", name="pk_unused_files"),
        sa.ForeignKeyConstraint(
            ["folder"],
            ["rat.lake_folders.location"],
            name="fk_unused_files_folder",
            ondelete="CASCADE",
        ),
        schema="rat",
    )
    op.create_index(
        "ix_unused_files_folder", "unused_files", ["folder", "seen_at"], schema="rat"
    )
    op.create_table(
        "backups",
        sa.Column(
            "id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False
        ),
        sa.Column("made_at", MOMENT, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("tables", JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_backups"),
        schema="rat",
    )


def downgrade() -> None:
    """Drop the tables."""
    for table in ("backups", "unused_files", "lake_folders", "warehouses"):
        op.drop_table(table, schema="rat")
