"""What became of invalidations."""

revision = "0027_invalidations"
down_revision = "0026_alert_deliveries"


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    """Nothing yet."""
