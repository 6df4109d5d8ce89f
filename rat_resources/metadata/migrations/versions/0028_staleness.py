"""Since when tables are older than their inputs, and why."""

revision = "0028_staleness"
down_revision = "0027_invalidations"


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    """Nothing yet."""
