"""The schemas, one a document. Safe: creates what is not there and touches nothing else."""

from alembic import op

from rat_resources.metadata.migrations import ensure_schema

revision = "0001_schemas"
down_revision = None


def upgrade() -> None:
    """Create the schemas of RAT, of the embedded refs and of Dagster."""
    for schema in ("rat", "lake", "dagster"):
        ensure_schema(op.get_bind(), schema)


def downgrade() -> None:
    """Keep `rat`, which holds the version table, and `dagster`, which is not ours to drop."""
    op.execute("DROP SCHEMA lake")
