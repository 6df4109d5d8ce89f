"""What depends on a table's columns, and how long making it anew takes.

Safe: a column that is NULL (not known) until its table is published again, and an index.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0028_staleness"
down_revision = "0027_invalidations"


def upgrade() -> None:
    """Add what is new."""
    op.add_column("traced_tables", sa.Column("deciding", JSONB()), schema="rat")
    op.create_index(
        "ix_runs_whole",
        "runs",
        ["pipeline_id", sa.text("finished_at DESC")],
        schema="rat",
        postgresql_where=sa.text(
            "status = 'success' AND NOT unchanged"
            " AND (full_refresh OR rows_written = rows_total)"
        ),
        postgresql_include=["duration_ms"],
    )


def downgrade() -> None:
    """Take it away."""
    op.drop_index("ix_runs_whole", "runs", schema="rat")
    op.drop_column("traced_tables", "deciding", schema="rat")
