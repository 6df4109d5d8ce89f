"""What people ask of the platform, as functions with an as_of.

Safe: functions, and the indexes that they need; while those are built, runs wait to write. The
functions are the SQL file beside this one.
"""

import re
from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0017_dashboards"
down_revision = "0016_mirror"

FUNCTIONS = Path(__file__).with_suffix(".sql")
NAME = re.compile(r"^CREATE FUNCTION ([a-z_.]+)\(", re.MULTILINE)


def upgrade() -> None:
    """Create the indexes and the functions."""
    # All that a question about a span of time reads of a run stands in the index.
    op.create_index(
        "ix_runs_finished",
        "runs",
        ["finished_at"],
        schema="rat",
        postgresql_include=[
            "pipeline_id",
            "status",
            "unchanged",
            "duration_ms",
            "id",
            "created_at",
        ],
    )
    op.create_index(
        "ix_runs_successes",
        "runs",
        ["pipeline_id", sa.text("finished_at DESC")],
        schema="rat",
        postgresql_where=sa.text("status = 'success'"),
        postgresql_include=["unchanged", "rows_total", "snapshot_id"],
    )
    op.create_index(
        "ix_runs_failures",
        "runs",
        ["finished_at"],
        schema="rat",
        postgresql_where=sa.text("status = 'failed'"),
        postgresql_include=["pipeline_id"],
    )
    op.create_index(
        "ix_quality_results_time",
        "quality_results",
        ["ran_at"],
        schema="rat",
        postgresql_include=["test_id", "status"],
    )
    op.create_index(
        "ix_quality_results_faults",
        "quality_results",
        ["ran_at"],
        schema="rat",
        postgresql_where=sa.text("status <> 'passed'"),
        postgresql_include=["test_id", "status"],
    )
    op.drop_index("ix_quality_results_history", "quality_results", schema="rat")
    op.create_index(
        "ix_quality_results_history",
        "quality_results",
        ["test_id", sa.text("ran_at DESC"), sa.text("id DESC")],
        schema="rat",
        postgresql_include=["status"],
    )
    op.get_bind().exec_driver_sql(FUNCTIONS.read_text())


def downgrade() -> None:
    """Drop them."""
    for name in reversed(NAME.findall(FUNCTIONS.read_text())):
        op.execute(f"DROP FUNCTION {name}")
    op.drop_index("ix_quality_results_history", "quality_results", schema="rat")
    op.create_index(
        "ix_quality_results_history",
        "quality_results",
        ["test_id", "ran_at"],
        schema="rat",
    )
    op.drop_index("ix_quality_results_faults", "quality_results", schema="rat")
    op.drop_index("ix_quality_results_time", "quality_results", schema="rat")
    op.drop_index("ix_runs_failures", "runs", schema="rat")
    op.drop_index("ix_runs_successes", "runs", schema="rat")
    op.drop_index("ix_runs_finished", "runs", schema="rat")
