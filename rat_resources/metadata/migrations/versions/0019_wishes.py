"""Why a wish ended without the run that it was for.

Safe: a column that may be NULL, which older code leaves so.
"""

import sqlalchemy as sa
from alembic import op

revision = "0019_wishes"
down_revision = "0018_external_runs"


def upgrade() -> None:
    """Add the column."""
    op.add_column("wishes", sa.Column("ended_because", sa.Text()), schema="rat")


def downgrade() -> None:
    """Forget it."""
    op.drop_column("wishes", "ended_because", schema="rat")
