"""What the collector of files knows. Safe: nothing changes."""

revision = "0031_collection"
down_revision = "0030_maintenance"


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    """Nothing yet."""
