"""Rejects: events that were not recorded, kept with the reason so that nothing is lost.

The same event of the same source is one row, however often it is told.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from rat_resources.external_runs.masking import mask, mask_text, shorten
from rat_resources.metadata.base import Json
from rat_resources.metadata.external_runs import RejectedEvent
from rat_resources.metadata.zeros import as_json

LONGEST_RAW = 4000
# Of one source at a time: a gigabyte of garbage is told by its beginning, and its count.
MOST_KEPT = 1000


@dataclass(frozen=True)
class Reject:
    """One event that was not recorded."""

    reason: str
    raw: str
    line: int = 0

    @classmethod
    def of(
        cls, raw: Json, reason: str, *, line: int = 0, secrets: Sequence[str] = ()
    ) -> "Reject":
        """The reject of an event that is JSON at least."""
        text = as_json(mask(raw, secrets=secrets))
        return cls(mask_text(reason, secrets=secrets), text, line)

    @property
    def digest(self) -> str:
        """What tells it from others of its source and line."""
        return sha256(f"{self.reason}\n{self.raw}".encode()).hexdigest()


def keep(
    tx: Session,
    rejects: Sequence[Reject],
    *,
    source: str,
    file_id: uuid.UUID | None = None,
) -> None:
    """Keep what was not recorded; what is known already is seen again."""
    # One statement may touch a row once; the order keeps two of them from waiting for each other.
    rows = {(each.line, each.digest): each for each in rejects}
    if not rows:
        return
    row = insert(RejectedEvent)
    tx.execute(
        row.on_conflict_do_update(
            index_elements=["source", "line", "digest"],
            set_={
                "times": RejectedEvent.times + 1,
                "last_seen_at": func.now(),
                "file_id": row.excluded.file_id,
            },
        ),
        [
            {
                "source": source,
                "line": line,
                "digest": digest,
                "reason": rows[line, digest].reason,
                "raw": shorten(rows[line, digest].raw, most=LONGEST_RAW),
                "file_id": file_id,
            }
            for line, digest in sorted(rows)
        ],
    )
