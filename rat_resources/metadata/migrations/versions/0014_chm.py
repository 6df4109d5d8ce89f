"""Clients, their pipelines and their runs: the document of CHM. Safe: only a new schema."""

from alembic import op

from rat_resources.metadata.migrations import ensure_schema

revision = "0014_chm"
down_revision = "0013_trace"


def upgrade() -> None:
    """Create the schema."""
    ensure_schema(op.get_bind(), "chm")


def downgrade() -> None:
    """Drop the schema."""
    op.execute("DROP SCHEMA chm CASCADE")
