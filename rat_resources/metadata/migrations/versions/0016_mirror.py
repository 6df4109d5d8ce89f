"""How far the mirror has read Dagster's log. Safe: only new tables."""

revision = "0016_mirror"
down_revision = "0015_lakeflow"


def upgrade() -> None:
    """Create them."""


def downgrade() -> None:
    """Drop them."""
