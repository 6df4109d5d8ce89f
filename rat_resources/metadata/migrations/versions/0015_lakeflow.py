"""The reporting star: the document of Lakeflow. Safe: only a new schema."""

from alembic import op

from rat_resources.metadata.migrations import ensure_schema

revision = "0015_lakeflow"
down_revision = "0014_chm"


def upgrade() -> None:
    """Create the schema."""
    ensure_schema(op.get_bind(), "lakeflow")


def downgrade() -> None:
    """Drop the schema."""
    op.execute("DROP SCHEMA lakeflow CASCADE")
