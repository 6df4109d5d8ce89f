"""What an alert says besides its condition, and which release said so.

Safe: nothing wrote alerts before; columns with defaults, which older code leaves alone; a new table.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from rat_resources.metadata.base import timestamptz

revision = "0024_alert_definitions"
down_revision = "0023_waiting"

TABLE, SCHEMA = "alert_definitions", "trace"
WORDS = {"namespace": "", "severity": "warning", "description": "", "remediation": ""}

VERSIONS = """
    CREATE TABLE rat.alert_versions (
        definition_id uuid NOT NULL,
        release_number integer NOT NULL,
        content text,
        code text,
        created_at timestamptz DEFAULT now() NOT NULL,
        CONSTRAINT pk_alert_versions PRIMARY KEY (definition_id, release_number),
        CONSTRAINT fk_alert_versions_definition_id
            FOREIGN KEY (definition_id) REFERENCES trace.alert_definitions (id),
        CONSTRAINT fk_alert_versions_release_number
            FOREIGN KEY (release_number) REFERENCES rat.releases (number)
    )
"""


def upgrade() -> None:
    """Add the columns, and find the alerts of a table quickly."""
    for name, default in WORDS.items():
        add(sa.Column(name, sa.Text(), nullable=False, server_default=default))
    add(sa.Column("owner", sa.Text()))
    add(sa.Column("labels", JSONB(), nullable=False, server_default="{}"))
    add(sa.Column("source", sa.Text(), nullable=False, server_default="job"))
    add(sa.Column("retired_at", timestamptz))
    for name in ("kind", "dataset"):
        said = sa.Computed(f"condition ->> '{name}'", persisted=True)
        add(sa.Column(name, sa.Text(), said))
    check("severity", "severity IN ('info', 'warning', 'critical')")
    check("source", "source IN ('file', 'job')")
    check("retired", "retired_at IS NULL OR NOT enabled")
    op.create_index(
        "ix_alert_definitions_dataset",
        TABLE,
        ["dataset"],
        schema=SCHEMA,
        postgresql_where=sa.text("enabled"),
    )
    op.execute(VERSIONS)


def add(column: sa.Column) -> None:
    """Add a column."""
    op.add_column(TABLE, column, schema=SCHEMA)


def check(name: str, condition: str) -> None:
    """Add a constraint."""
    op.create_check_constraint(
        op.f(f"ck_{TABLE}_{name}"), TABLE, condition, schema=SCHEMA
    )


def downgrade() -> None:
    """Forget them."""
    op.execute("DROP TABLE rat.alert_versions")
    op.drop_index("ix_alert_definitions_dataset", TABLE, schema=SCHEMA)
    for name in ("severity", "source", "retired"):
        op.drop_constraint(op.f(f"ck_{TABLE}_{name}"), TABLE, schema=SCHEMA)
    for name in (*WORDS, "owner", "labels", "source", "retired_at", "kind", "dataset"):
        op.drop_column(TABLE, name, schema=SCHEMA)
