"""Plugins and the audit log. Safe: only new tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

revision = "0008_audit"
down_revision = "0007_catalog"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "audit_log",
        sa.Column(
            "id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False
        ),
        sa.Column(
            "user_id", sa.String(255), server_default="anonymous", nullable=False
        ),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "created_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name="pk_audit_log"),
        schema="rat",
    )
    op.create_index(
        "ix_audit_log_time", "audit_log", [sa.text("created_at DESC")], schema="rat"
    )
    op.create_index(
        "ix_audit_log_user",
        "audit_log",
        ["user_id", sa.text("created_at DESC")],
        schema="rat",
    )
    op.create_table(
        "plugins",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("slot", sa.String(20), nullable=False),
        sa.Column("image", sa.String(255), nullable=False),
        sa.Column("status", sa.String(20), server_default="unknown", nullable=False),
        sa.Column("config", JSONB(), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_plugins"),
        sa.CheckConstraint(
            "status IN ('healthy', 'degraded', 'down', 'unknown')",
            name=op.f("ck_plugins_status"),
        ),
        schema="rat",
    )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("plugins", schema="rat")
    op.drop_table("audit_log", schema="rat")
