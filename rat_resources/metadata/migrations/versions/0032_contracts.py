"""What a contract says of a table. Safe: nothing changes."""

revision = "0032_contracts"
down_revision = "0031_collection"


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    """Nothing yet."""
