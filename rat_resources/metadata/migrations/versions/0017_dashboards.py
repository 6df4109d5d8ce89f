"""What people ask of the platform, as functions with an as_of. Safe: only functions and views."""

revision = "0017_dashboards"
down_revision = "0016_mirror"


def upgrade() -> None:
    """Create them."""


def downgrade() -> None:
    """Drop them."""
