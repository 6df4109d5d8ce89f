"""Processed landing files: in zones that say `auto_purge`, what every reader has committed long ago.

The ledger keeps their rows: that they were consumed stays true.
"""

import json
from collections.abc import Iterator, Sequence
from functools import partial

from sqlalchemy import Row, text

from rat_resources.archive import PROCESSED
from rat_resources.janitor.chores import Batch, Chore, Scene
from rat_resources.retention import as_text, before

AT_ONCE = 500

OLD = text("""
    SELECT file.id, file.moved_to
    FROM rat.landing_files AS file
    JOIN rat.landing_zones AS zone ON zone.id = file.zone_id
    CROSS JOIN LATERAL (
        SELECT max(claim.committed_at) AS at
        FROM rat.landing_claims AS claim
        WHERE claim.file_id = file.id
    ) AS committed
    WHERE zone.auto_purge
        AND file.state = 'archived'
        AND file.moved_to LIKE :processed
        AND file.id > CAST(:after AS uuid)
        AND coalesce(committed.at, file.uploaded_at) < coalesce(
            (CAST(:cutoffs AS jsonb) ->> zone.namespace)::timestamptz,
            CAST(:cutoff AS timestamptz)
        )
    ORDER BY file.id
    LIMIT :at_once
""")
FORGET = text("""
    UPDATE rat.landing_files SET state = 'gone' WHERE id = ANY(:ids) AND state = 'archived'
""")
NONE = "00000000-0000-0000-0000-000000000000"


def find(scene: Scene) -> Iterator[Batch]:
    """The processed files that are too old."""
    after, own = NONE, scene.policy.namespaces
    cutoffs = {
        name: as_text(before(each.processed, now=scene.now))
        for name, each in own.items()
    }
    while True:
        values = {
            "processed": f"%/{PROCESSED}/%",
            "after": after,
            "cutoff": as_text(scene.cutoff("processed")),
            "cutoffs": json.dumps(cutoffs),
            "at_once": AT_ONCE,
        }
        with scene.whole.metadata.transaction() as tx:
            rows = tx.execute(OLD, values).all()
        if rows:
            yield Batch({"processed_files": len(rows)}, partial(forget, scene, rows))
            after = str(rows[-1].id)
        if len(rows) < AT_ONCE:
            return


def forget(scene: Scene, rows: Sequence[Row]) -> None:
    """Delete files, then say that they are gone: after a crash in between they are deleted again."""
    for row in rows:
        scene.whole.store.delete(row.moved_to)
    with scene.whole.metadata.transaction() as tx:
        tx.execute(FORGET, {"ids": [row.id for row in rows]})


CHORES = (Chore("processed landing files", ("processed_files",), find),)
