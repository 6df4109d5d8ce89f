"""How far the mirror has read Dagster's log. Safe: only a new table and a new function."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0016_mirror"
down_revision = "0015_lakeflow"

# Postgres 15 has no pg_input_is_valid, and one bad row must not end a statement over a thousand.
AS_JSON = """
    CREATE FUNCTION rat.as_json(body text) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
    BEGIN
        RETURN body::jsonb;
    EXCEPTION WHEN OTHERS THEN
        RETURN NULL;
    END
    $$
"""


def upgrade() -> None:
    """Create them."""
    op.create_table(
        "mirror_positions",
        sa.Column("feed", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("seen", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("seen_at", TIMESTAMP(timezone=True)),
        sa.Column(
            "updated_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "feed IN ('runs', 'event_logs')", name="ck_mirror_positions_feed"
        ),
        sa.PrimaryKeyConstraint("feed", name="pk_mirror_positions"),
        schema="rat",
    )
    op.create_index(
        "ix_fact_job_run_timeline_unfinished",
        "fact_job_run_timeline",
        ["run_id"],
        schema="lakeflow",
        postgresql_where=sa.text("result_state IS NULL"),
    )
    op.execute(AS_JSON)


def downgrade() -> None:
    """Drop them."""
    op.execute("DROP FUNCTION rat.as_json(text)")
    op.drop_index(
        "ix_fact_job_run_timeline_unfinished",
        table_name="fact_job_run_timeline",
        schema="lakeflow",
    )
    op.drop_table("mirror_positions", schema="rat")
