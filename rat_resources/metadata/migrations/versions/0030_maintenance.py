"""What is done to keep tables fast. Safe: nothing changes."""

revision = "0030_maintenance"
down_revision = "0029_alert_questions"


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    """Nothing yet."""
