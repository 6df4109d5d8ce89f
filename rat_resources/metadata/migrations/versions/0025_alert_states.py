"""Which alerts are raised now."""

revision = "0025_alert_states"
down_revision = "0024_alert_definitions"


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    """Nothing yet."""
