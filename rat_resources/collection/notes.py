"""Notes: since when a file has been seen to be needed by nothing; it goes a while after.

Whoever removes a file takes its note first, in the same transaction: of two collectors one removes it, and
where that one dies the note is there again. What is needed again, or gone, a round forgets at its end.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

NOTE = text("""
    INSERT INTO rat.unused_files AS known (location, folder, noted_at, seen_at)
    SELECT location, :folder, :since, :now
    FROM unnest(CAST(:locations AS text[])) AS location
    ORDER BY location
    ON CONFLICT (location) DO UPDATE SET seen_at = excluded.seen_at
    RETURNING known.location, known.noted_at
""")
LOOK_UP = text("""
    SELECT location, noted_at FROM rat.unused_files WHERE location = ANY(:locations)
""")
TAKE = text("""
    DELETE FROM rat.unused_files WHERE location = ANY(:locations) RETURNING location
""")
FORGET = text("""
    DELETE FROM rat.unused_files WHERE folder = :folder AND seen_at < :now
""")
KNOW_FOLDERS = text("""
    INSERT INTO rat.lake_folders (location, "table", seen_at)
    SELECT location, "table", :now
    FROM unnest(CAST(:locations AS text[]), CAST(:tables AS text[])) AS known (location, "table")
    ORDER BY location
    ON CONFLICT (location) DO NOTHING
""")


def note(
    tx: Session,
    locations: Sequence[str],
    *,
    folder: str,
    now: datetime,
    since: datetime | None = None,
) -> Mapping[str, datetime]:
    """Since when each of these files has been noted; what was not is now, or is again *since* then."""
    values = {
        "locations": list(locations),
        "folder": folder,
        "now": now,
        "since": since or now,
    }
    return {row.location: row.noted_at for row in tx.execute(NOTE, values)}


def look_up(tx: Session, locations: Sequence[str]) -> Mapping[str, datetime]:
    """Since when those of these files that are noted have been."""
    rows = tx.execute(LOOK_UP, {"locations": list(locations)})
    return {row.location: row.noted_at for row in rows}


def take(tx: Session, locations: Collection[str]) -> set[str]:
    """The files whose notes are ours to take, and are gone if the transaction ends well."""
    return set(tx.scalars(TAKE, {"locations": sorted(locations)}))


def forget_unseen(tx: Session, folder: str, *, now: datetime) -> None:
    """Forget what this round did not find to be there and needed by nothing."""
    tx.execute(FORGET, {"folder": folder, "now": now})


def know_folders(tx: Session, folders: Mapping[str, str], *, now: datetime) -> None:
    """Remember folders, and the tables that they are of."""
    values = {
        "locations": list(folders),
        "tables": list(folders.values()),
        "now": now,
    }
    tx.execute(KNOW_FOLDERS, values)
