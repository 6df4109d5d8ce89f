"""The audit log: who did what, longer ago than it is kept."""

import uuid

from sqlalchemy import text

from rat_resources.janitor.chores import Chore
from rat_resources.janitor.deleting import OldRows

ROWS = OldRows(
    "rat.audit_log",
    word="audit",
    kind="audit_rows",
    query=text("""
        SELECT id FROM rat.audit_log
        WHERE created_at < :cutoff AND id > :after
        ORDER BY id
        LIMIT :at_once
    """),
    first=uuid.UUID(int=0),
)

CHORES = (Chore("the audit log", (ROWS.kind,), ROWS.find),)
