"""What an alert says besides its condition."""

revision = "0024_alert_definitions"
down_revision = "0023_waiting"


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    """Nothing yet."""
