"""What deliveries are sent together, and when."""

revision = "0026_alert_deliveries"
down_revision = "0025_alert_states"


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    """Nothing yet."""
