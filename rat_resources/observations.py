"""Observations: what Dagster shows of a landing zone, which it never materializes.

The landing sensor reports one when files come or go, a run when it has read some.
"""

from datetime import UTC
from typing import Any

import dagster as dg
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from rat_resources.landing import Looked, Zone
from rat_resources.metadata.landing import FileState, LandingFile

FILES = 20
NAME_LENGTH = 80


def observe(
    tx: Session, zone: Zone, *, looked: Looked | None = None
) -> dg.AssetObservation:
    """What is in *zone* now, and what a look at it found."""
    present = LandingFile.state == FileState.PRESENT
    files, total = tx.execute(
        select(func.count(), func.coalesce(func.sum(LandingFile.size_bytes), 0)).where(
            LandingFile.zone_id == zone.id, present
        )
    ).one()
    metadata: dict[str, Any] = {"files": files, "bytes": int(total)}
    if looked is not None:
        metadata |= describe_look(looked)
    if rows := newest_files(tx, zone):
        metadata["newest_files"] = dg.MetadataValue.table(rows)
    return dg.AssetObservation(
        asset_key=dg.AssetKey([zone.namespace, "landing", zone.name]),
        metadata=metadata,
    )


def describe_look(looked: Looked) -> dict[str, Any]:
    """What a look found, in numbers, and why it refused what it refused."""
    shown: dict[str, Any] = {
        "new": len(looked.new),
        "still_being_written": len(looked.waiting),
        "gone": len(looked.gone),
    }
    if looked.refused:
        shown["refused"] = "\n".join(
            f"{shorten(one.name)}: {one.why}" for one in looked.refused[:FILES]
        )
    return shown


def newest_files(tx: Session, zone: Zone) -> list[dg.TableRecord]:
    """The files that were seen last, whatever became of them."""
    rows = tx.execute(
        select(LandingFile)
        .where(LandingFile.zone_id == zone.id)
        .order_by(LandingFile.uploaded_at.desc(), LandingFile.filename)
        .limit(FILES)
    )
    return [
        dg.TableRecord(
            {
                "file": shorten(file.filename),
                "bytes": file.size_bytes,
                "seen (UTC)": f"{file.uploaded_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
                "state": file.state,
            }
        )
        for file in rows.scalars()
    ]


def shorten(name: str) -> str:
    """A file's name, as much of it as fits into a table."""
    return name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 1]}…"
