"""Orchestration state, data versions, alerts: the documents of Trace. Safe: only a new schema."""

from alembic import op

from rat_resources.metadata.migrations import ensure_schema

revision = "0013_trace"
down_revision = "0012_deployment"


def upgrade() -> None:
    """Create the schema."""
    ensure_schema(op.get_bind(), "trace")


def downgrade() -> None:
    """Drop the schema."""
    op.execute("DROP SCHEMA trace CASCADE")
