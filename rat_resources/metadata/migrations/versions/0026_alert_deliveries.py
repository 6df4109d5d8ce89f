"""What deliveries are sent together, and which events nobody has routed yet.

Safe: columns that may be NULL, a table of its own, and a trigger on one that nothing wrote before. An
event that is there already was never meant to be sent.
"""

import sqlalchemy as sa
from alembic import op

from rat_resources.metadata.base import timestamptz

revision = "0026_alert_deliveries"
down_revision = "0025_alert_states"

TABLE, SCHEMA = "alert_deliveries", "trace"
OPEN = "leader_id IS NULL AND status IN ('pending', 'retrying', 'sending')"


def upgrade() -> None:
    """Add the columns, the table, and the trigger that fills it."""
    op.add_column(TABLE, sa.Column("leader_id", sa.Uuid()), schema=SCHEMA)
    op.add_column(TABLE, sa.Column("group_key", sa.Text()), schema=SCHEMA)
    op.create_foreign_key(
        op.f("fk_alert_deliveries_leader_id"),
        TABLE,
        TABLE,
        ["leader_id"],
        ["id"],
        source_schema=SCHEMA,
        referent_schema=SCHEMA,
    )
    index("leader", ["leader_id"], where="leader_id IS NOT NULL")
    index("group", ["group_key"], where="leader_id IS NULL AND status = 'pending'")
    index("open", ["next_attempt_at"], where=OPEN)
    op.create_table(
        "alert_queue",
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column(
            "queued_at", timestamptz, nullable=False, server_default=sa.func.now()
        ),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_alert_queue")),
        sa.ForeignKeyConstraint(
            ["event_id"],
            ["trace.alert_events.id"],
            name=op.f("fk_alert_queue_event_id"),
            ondelete="CASCADE",
        ),
        schema="rat",
    )
    op.create_index("ix_alert_queue_time", "alert_queue", ["queued_at"], schema="rat")
    op.execute(QUEUE)


def index(name: str, columns: list[str], *, where: str) -> None:
    """Add an index of some rows."""
    op.create_index(
        f"ix_{TABLE}_{name}",
        TABLE,
        columns,
        schema=SCHEMA,
        postgresql_where=sa.text(where),
    )


# Whoever writes an event: it is sent where somebody wants to hear of it.
QUEUE = """
CREATE FUNCTION trace.queue_alert_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO rat.alert_queue (event_id) SELECT id FROM added ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;

CREATE TRIGGER tr_alert_events_queue AFTER INSERT ON trace.alert_events
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION trace.queue_alert_events();
"""


def downgrade() -> None:
    """Forget them."""
    op.execute("DROP TRIGGER tr_alert_events_queue ON trace.alert_events")
    op.execute("DROP FUNCTION trace.queue_alert_events()")
    op.drop_table("alert_queue", schema="rat")
    for name in ("leader", "group", "open"):
        op.drop_index(f"ix_{TABLE}_{name}", TABLE, schema=SCHEMA)
    op.drop_column(TABLE, "leader_id", schema=SCHEMA)
    op.drop_column(TABLE, "group_key", schema=SCHEMA)
