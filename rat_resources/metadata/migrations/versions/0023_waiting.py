"""Until when a run that waits for its lease is surely there. Safe: NULL says nothing, as before."""

import sqlalchemy as sa
from alembic import op

from rat_resources.metadata.base import timestamptz

revision = "0023_waiting"
down_revision = "0022_version_ids"


def upgrade() -> None:
    """Add the column."""
    op.add_column("runs", sa.Column("waits_until", timestamptz), schema="rat")


def downgrade() -> None:
    """Forget it."""
    op.drop_column("runs", "waits_until", schema="rat")
