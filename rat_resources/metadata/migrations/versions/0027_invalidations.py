"""Who was told of an invalidation, and the wishes that a failed run for one leaves behind.

Safe: two columns that may be NULL, an index over the few open rows, and a state that older code never
writes.
"""

import sqlalchemy as sa
from alembic import op

revision = "0027_invalidations"
down_revision = "0026_alert_deliveries"

CHECK = op.f("ck_wishes_state")
STATES = "state IN ('waiting', 'requested', 'taken', 'held', 'done')"
OLD_STATES = "state IN ('waiting', 'requested', 'taken', 'done')"
INDEX = "ix_data_invalidations_routed"


def upgrade() -> None:
    """Add the columns and the state."""
    op.add_column(
        "data_invalidations", sa.Column("routed_release", sa.Integer()), schema="trace"
    )
    op.add_column("data_invalidations", sa.Column("problem", sa.Text()), schema="trace")
    op.create_index(
        INDEX,
        "data_invalidations",
        ["routed_release"],
        schema="trace",
        postgresql_where=sa.text("processed_at IS NULL"),
    )
    op.drop_constraint(CHECK, "wishes", schema="rat")
    op.create_check_constraint(CHECK, "wishes", STATES, schema="rat")


def downgrade() -> None:
    """Let what was held be done, and forget who was told."""
    op.execute("UPDATE rat.wishes SET state = 'done' WHERE state = 'held'")
    op.drop_constraint(CHECK, "wishes", schema="rat")
    op.create_check_constraint(CHECK, "wishes", OLD_STATES, schema="rat")
    op.drop_index(INDEX, "data_invalidations", schema="trace")
    op.drop_column("data_invalidations", "problem", schema="trace")
    op.drop_column("data_invalidations", "routed_release", schema="trace")
