"""Orchestration state, data versions, alerts: the documents of Trace, and the transitions of states.

Safe: new schemas; a column that is NULL for all that is there; and triggers on `rat.runs` and
`rat.publications` that refuse what never happened.
"""

import sqlalchemy as sa
from alembic import op

from rat_resources.metadata.migrations import ensure_schema, execute_script

revision = "0013_trace"
down_revision = "0012_deployment"


def upgrade() -> None:
    """Create the schemas, their tables, the triggers and the views."""
    for schema in ("trace", "trace_by_name"):
        ensure_schema(op.get_bind(), schema)
    op.add_column(
        "pipeline_versions", sa.Column("abandoned_by", sa.Integer()), schema="rat"
    )
    op.create_foreign_key(
        "fk_pipeline_versions_abandoned_by",
        "pipeline_versions",
        "releases",
        ["abandoned_by"],
        ["number"],
        source_schema="rat",
        referent_schema="rat",
    )
    for script in ("tables", "transitions", "by_name"):
        execute_script(op.get_bind(), f"{revision}/{script}.sql")


def downgrade() -> None:
    """Drop the schemas and the triggers."""
    op.execute("DROP SCHEMA trace_by_name CASCADE")
    op.execute("DROP SCHEMA trace CASCADE")
    op.drop_column("pipeline_versions", "abandoned_by", schema="rat")
    op.execute("DROP FUNCTION rat.allow_transitions CASCADE")
