"""What this deployment is called, for every statement that must know. Safe: only a new table."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0012_deployment"
down_revision = "0011_changes"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "deployment",
        sa.Column("id", sa.Integer(), server_default="1", nullable=False),
        sa.Column("org", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column(
            "updated_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name="pk_deployment"),
        sa.CheckConstraint("id = 1", name="ck_deployment_one_row"),
        schema="rat",
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("deployment", schema="rat")
