"""The logs that the store still holds, found without looking at every run.

Safe: an index, which older code does not notice; runs wait while it is made.
"""

import sqlalchemy as sa
from alembic import op

revision = "0021_janitor"
down_revision = "0020_publications"


def upgrade() -> None:
    """Add the index."""
    op.create_index(
        "ix_runs_logged",
        "runs",
        ["finished_at", "id"],
        schema="rat",
        postgresql_where=sa.text("logs_s3_path IS NOT NULL"),
    )


def downgrade() -> None:
    """Do without it."""
    op.drop_index("ix_runs_logged", table_name="runs", schema="rat")
