"""What depends on a table's columns.

Safe: a column that is NULL (not known) until its table is published again.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0028_staleness"
down_revision = "0027_invalidations"


def upgrade() -> None:
    """Add what is new."""
    op.add_column("traced_tables", sa.Column("deciding", JSONB()), schema="rat")


def downgrade() -> None:
    """Take it away."""
    op.drop_column("traced_tables", "deciding", schema="rat")
