"""Which alerts are raised now, and how far the sensor has looked.

Safe: new tables; an index, for which runs of clients wait while it is made.
"""

from alembic import op

revision = "0025_alert_states"
down_revision = "0024_alert_definitions"

STATES = """
    CREATE TABLE rat.alert_states (
        id uuid DEFAULT gen_random_uuid() NOT NULL,
        definition_id uuid,
        subject text NOT NULL,
        event_id uuid NOT NULL,
        since timestamptz DEFAULT now() NOT NULL,
        CONSTRAINT pk_alert_states PRIMARY KEY (id),
        CONSTRAINT fk_alert_states_definition_id
            FOREIGN KEY (definition_id) REFERENCES trace.alert_definitions (id),
        CONSTRAINT fk_alert_states_event_id
            FOREIGN KEY (event_id) REFERENCES trace.alert_events (id)
    )
"""
POSITIONS = """
    CREATE TABLE rat.alert_positions (
        feed text NOT NULL,
        position timestamptz,
        seen jsonb DEFAULT '{}' NOT NULL,
        updated_at timestamptz DEFAULT now() NOT NULL,
        CONSTRAINT pk_alert_positions PRIMARY KEY (feed),
        CONSTRAINT ck_alert_positions_feed CHECK (btrim(feed) <> '')
    )
"""
INDEXES = (
    "CREATE UNIQUE INDEX uq_alert_states_raised"
    " ON rat.alert_states (definition_id, subject) NULLS NOT DISTINCT",
    "CREATE INDEX ix_alert_states_event ON rat.alert_states (event_id)",
    "CREATE INDEX ix_runs_failed_updated_at ON chm.runs (updated_at) WHERE status = 'failed'",
)


def upgrade() -> None:
    """Create the tables."""
    for statement in (STATES, POSITIONS, *INDEXES):
        op.execute(statement)


def downgrade() -> None:
    """Drop the tables."""
    op.execute("DROP INDEX chm.ix_runs_failed_updated_at")
    op.execute("DROP TABLE rat.alert_positions")
    op.execute("DROP TABLE rat.alert_states")
