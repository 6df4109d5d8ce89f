"""The embedded refs: commits, what they changed, branches and tags. Safe: only new tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP

revision = "0009_lake"
down_revision = "0008_audit"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "lines",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("parent_line", sa.BigInteger(), nullable=True),
        sa.Column("parent_seq", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_lines"),
        sa.CheckConstraint(
            "(parent_line IS NULL) = (parent_seq IS NULL)", name=op.f("ck_lines_parent")
        ),
        sa.ForeignKeyConstraint(
            ["parent_line"], ["lake.lines.id"], name="fk_lines_parent_line"
        ),
        schema="lake",
    )
    op.create_index(
        "ix_lines_parent", "lines", ["parent_line", "parent_seq"], schema="lake"
    )
    op.create_table(
        "commits",
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("parent_hash", sa.Text(), nullable=True),
        sa.Column("merged_hash", sa.Text(), nullable=True),
        sa.Column("merged_line", sa.BigInteger(), nullable=True),
        sa.Column("merged_seq", sa.BigInteger(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("authors", ARRAY(sa.Text()), nullable=False),
        sa.Column("properties", JSONB(), nullable=False),
        sa.Column(
            "committed_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("hash", name="pk_commits"),
        sa.CheckConstraint(
            "(merged_hash IS NULL) = (merged_line IS NULL) AND (merged_line IS NULL) = (merged_seq IS NULL)",
            name=op.f("ck_commits_merged"),
        ),
        sa.ForeignKeyConstraint(["line"], ["lake.lines.id"], name="fk_commits_line"),
        sa.ForeignKeyConstraint(
            ["merged_line", "merged_seq"],
            ["lake.commits.line", "lake.commits.seq"],
            name="fk_commits_merged_line_merged_seq",
        ),
        sa.UniqueConstraint("line", "seq", name="uq_commits_line_seq"),
        schema="lake",
    )
    op.create_index(
        "ix_commits_merged",
        "commits",
        ["merged_line", "merged_seq"],
        schema="lake",
        postgresql_where=sa.text("merged_line IS NOT NULL"),
    )
    op.create_table(
        "operations",
        sa.Column("line", sa.BigInteger(), nullable=False),
        sa.Column("key", ARRAY(sa.Text()), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("content", JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("line", "key", "seq", name="pk_operations"),
        sa.ForeignKeyConstraint(
            ["line", "seq"],
            ["lake.commits.line", "lake.commits.seq"],
            name="fk_operations_line_seq",
        ),
        schema="lake",
    )
    op.create_index(
        "ix_operations_commit", "operations", ["line", "seq"], schema="lake"
    )
    op.create_table(
        "refs",
        sa.Column("name", sa.Text(collation="C"), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=True),
        sa.Column(
            "created_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("name", name="pk_refs"),
        sa.CheckConstraint("type IN ('BRANCH', 'TAG')", name=op.f("ck_refs_type")),
        sa.ForeignKeyConstraint(["hash"], ["lake.commits.hash"], name="fk_refs_hash"),
        sa.ForeignKeyConstraint(["line"], ["lake.lines.id"], name="fk_refs_line"),
        schema="lake",
    )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("refs", schema="lake")
    op.drop_table("operations", schema="lake")
    op.drop_table("commits", schema="lake")
    op.drop_table("lines", schema="lake")
