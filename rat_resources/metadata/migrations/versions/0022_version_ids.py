"""Which versions of S3 landing files and published files are.

Safe: columns that may be NULL or have a default, which older code leaves so.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0022_version_ids"
down_revision = "0021_janitor"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("landing_files", sa.Column("s3_version_id", sa.Text()), schema="rat")
    op.add_column(
        "pipeline_versions",
        sa.Column("s3_version_ids", JSONB(), server_default="{}", nullable=False),
        schema="rat",
    )


def downgrade() -> None:
    """Forget them."""
    op.drop_column("pipeline_versions", "s3_version_ids", schema="rat")
    op.drop_column("landing_files", "s3_version_id", schema="rat")
