"""What a run changed of what stood on main. Safe: a new column without a default."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0011_changes"
down_revision = "0010_lineage"


def upgrade() -> None:
    """Add the column."""
    op.add_column("runs", sa.Column("changes", JSONB(), nullable=True), schema="rat")


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("runs", "changes", schema="rat")
