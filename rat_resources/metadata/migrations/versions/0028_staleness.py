"""What depends on a table's columns, how long making it anew takes, and what is stale and why.

Safe: a column that is NULL (not known) until its table is published again, indexes, and views.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from rat_resources.metadata.migrations import execute_script

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
    op.create_index(
        "ix_partition_versions_newest",
        "partition_versions",
        ["dataset_uuid", sa.text("materialized_at DESC")],
        schema="trace",
        postgresql_include=["dataset_version"],
    )
    execute_script(op.get_bind(), f"{revision}.sql")


def downgrade() -> None:
    """Take it away."""
    op.execute("DROP VIEW trace.staleness")
    op.execute("DROP VIEW trace.stale_because")
    op.drop_index("ix_partition_versions_newest", "partition_versions", schema="trace")
    op.drop_index("ix_runs_whole", "runs", schema="rat")
    op.drop_column("traced_tables", "deciding", schema="rat")
