"""How far a publication came whose merge is a server's.

Safe: columns that may be NULL, and two more states, which older code never writes.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0020_publications"
down_revision = "0019_wishes"

BEFORE = ("intended", "published", "closed", "undone")
STATES = (*BEFORE[:1], "merging", "undoing", *BEFORE[1:])
ARROWS_BEFORE = ("intended>published", "intended>undone", "published>closed")
ARROWS = (
    *ARROWS_BEFORE,
    "intended>merging",
    "merging>intended",
    "merging>published",
    "merging>undoing",
    "undoing>published",
    "undoing>undone",
)
OPEN_BEFORE = ("intended", "published")
OPEN = ("intended", "merging", "undoing", "published")


def upgrade() -> None:
    """Add the columns and the states."""
    for column in ("sent_at", "cut_off_at"):
        op.add_column(
            "publications", sa.Column(column, TIMESTAMP(timezone=True)), schema="rat"
        )
    allow(STATES, arrows=ARROWS, open_ones=OPEN)


def downgrade() -> None:
    """Forget them."""
    op.execute("""
        UPDATE rat.publications SET state = 'intended' WHERE state = 'merging';
        UPDATE rat.publications SET state = 'undone' WHERE state = 'undoing';
    """)
    allow(BEFORE, arrows=ARROWS_BEFORE, open_ones=OPEN_BEFORE)
    for column in ("sent_at", "cut_off_at"):
        op.drop_column("publications", column, schema="rat")


def allow(
    states: tuple[str, ...], *, arrows: tuple[str, ...], open_ones: tuple[str, ...]
) -> None:
    """Let a publication be in these states, and go these ways between them."""
    op.drop_constraint(
        op.f("ck_publications_state"), "publications", schema="rat", type_="check"
    )
    op.create_check_constraint(
        op.f("ck_publications_state"),
        "publications",
        f"state IN ({listed(states)})",
        schema="rat",
    )
    op.drop_index("ix_publications_open", table_name="publications", schema="rat")
    op.create_index(
        "ix_publications_open",
        "publications",
        ["pipeline_id"],
        schema="rat",
        postgresql_where=sa.text(f"state IN ({listed(open_ones)})"),
    )
    op.execute(f"""
        DROP TRIGGER ck_publications_transition ON rat.publications;
        CREATE TRIGGER ck_publications_transition BEFORE UPDATE OF state ON rat.publications
            FOR EACH ROW WHEN (OLD.state <> NEW.state)
            EXECUTE FUNCTION rat.allow_transitions('state', {listed(arrows)});
    """)


def listed(words: tuple[str, ...]) -> str:
    """Words as SQL lists them."""
    return ", ".join(f"'{word}'" for word in words)
