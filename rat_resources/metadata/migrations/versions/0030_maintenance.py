"""What is done to keep tables fast, and which versions of a table hold the same rows.

Safe: a new table, and functions that nothing older calls.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0030_maintenance"
down_revision = "0029_alert_questions"


def upgrade() -> None:
    """Make the table, and the functions that find a version as it was published."""
    op.create_table(
        "maintenance",
        sa.Column("id", sa.Uuid(), server_default=sa.func.gen_random_uuid()),
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("layer", sa.String(10), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("state", sa.String(20), server_default="intended", nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("from_hash", sa.Text(), nullable=False),
        sa.Column("expected_main", sa.Text(), nullable=False),
        sa.Column("location_before", sa.Text(), nullable=False),
        sa.Column("snapshot_before", sa.BigInteger()),
        sa.Column("metadata_location", sa.Text(), nullable=False),
        sa.Column("snapshot_id", sa.BigInteger()),
        sa.Column("original_location", sa.Text(), nullable=False),
        sa.Column("original_snapshot", sa.BigInteger()),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("files_before", sa.Integer(), nullable=False),
        sa.Column("files_after", sa.Integer(), nullable=False),
        sa.Column("bytes_before", sa.BigInteger(), nullable=False),
        sa.Column("bytes_after", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("dead_rows", sa.BigInteger(), nullable=False),
        sa.Column("snapshots", sa.Integer(), nullable=False),
        sa.Column("metadata_files", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("commit", sa.Text()),
        sa.Column(
            "created_at",
            TIMESTAMP(timezone=True),
            server_default=sa.func.now(),
            nullable=False,
        ),
        sa.Column("cut_off_at", TIMESTAMP(timezone=True)),
        sa.Column("finished_at", TIMESTAMP(timezone=True)),
        sa.CheckConstraint(
            "state IN ('intended', 'merged', 'undone')",
            name=op.f("ck_maintenance_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_maintenance")),
        schema="rat",
    )
    op.create_index(
        "ix_maintenance_table",
        "maintenance",
        ["namespace", "layer", "name", "created_at"],
        schema="rat",
    )
    op.create_index(
        "ix_maintenance_location",
        "maintenance",
        ["metadata_location"],
        unique=True,
        schema="rat",
    )
    op.create_index(
        "ix_maintenance_snapshot", "maintenance", ["snapshot_id"], schema="rat"
    )
    op.create_index(
        "ix_maintenance_open",
        "maintenance",
        ["created_at"],
        schema="rat",
        postgresql_where=sa.text("state = 'intended'"),
    )
    op.execute("""
        CREATE FUNCTION rat.published_location(location text) RETURNS text
        LANGUAGE sql STABLE AS $$
            SELECT coalesce(
                (
                    SELECT original_location FROM rat.maintenance
                    WHERE metadata_location = location
                ),
                location
            )
        $$;
        COMMENT ON FUNCTION rat.published_location(text) IS
            'the metadata file with the same rows that was there before any maintenance';
        CREATE FUNCTION rat.published_snapshot(snapshot bigint) RETURNS bigint
        LANGUAGE sql STABLE AS $$
            SELECT coalesce(
                (
                    SELECT original_snapshot FROM rat.maintenance
                    WHERE snapshot_id = snapshot
                    LIMIT 1
                ),
                snapshot
            )
        $$;
        COMMENT ON FUNCTION rat.published_snapshot(bigint) IS
            'the snapshot with the same rows that was there before any maintenance';
    """)


def downgrade() -> None:
    """Forget it all."""
    op.execute("""
        DROP FUNCTION rat.published_snapshot(bigint);
        DROP FUNCTION rat.published_location(text);
    """)
    op.drop_table("maintenance", schema="rat")
