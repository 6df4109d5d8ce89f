"""Logs of runs: what each said, in the store, and its newest lines in Postgres.

Dagster's own, what a step printed, lie under RAT_HOME by the id of its run, or in a store in S3.
"""

import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from sqlalchemy import Row, text

from rat_resources.janitor.chores import Batch, Chore, Scene
from rat_resources.reconciliation import as_uuid
from rat_resources.store import COMPUTE_LOGS, Store

AT_ONCE = 500

OLD = text("""
    SELECT run.id, run.finished_at, run.logs_s3_path
    FROM rat.runs AS run
    WHERE run.logs_s3_path IS NOT NULL
        AND run.finished_at < CAST(:latest AS timestamptz)
        AND run.finished_at < coalesce(
            (CAST(:cutoffs AS jsonb) ->> run.pipeline_id::text)::timestamptz,
            CAST(:cutoff AS timestamptz)
        )
        AND (run.finished_at, run.id) > (CAST(:at AS timestamptz), CAST(:id AS uuid))
    ORDER BY run.finished_at, run.id
    LIMIT :at_once
""")
FORGET = text("""
    UPDATE rat.runs SET logs_s3_path = NULL, logs = NULL WHERE id = ANY(:ids)
""")
FIRST = {"at": "-infinity", "id": "00000000-0000-0000-0000-000000000000"}


def find(scene: Scene) -> Iterator[Batch]:
    """The logs of the store that are too old."""
    place = dict(FIRST)
    while True:
        values = scene.cutoffs("logs") | place | {"at_once": AT_ONCE}
        with scene.whole.metadata.transaction() as tx:
            rows = tx.execute(OLD, values).all()
        if rows:
            yield Batch({"run_logs": len(rows)}, partial(forget, scene, rows))
            place = {"at": rows[-1].finished_at.isoformat(), "id": str(rows[-1].id)}
        if len(rows) < AT_ONCE:
            return


def forget(scene: Scene, rows: Sequence[Row]) -> None:
    """Delete logs, then say that they are gone: a crash in between leaves a path to delete again."""
    for row in rows:
        scene.whole.store.delete(row.logs_s3_path)
    with scene.whole.metadata.transaction() as tx:
        tx.execute(FORGET, {"ids": [row.id for row in rows]})


# What steps print.

PRINTED = text("""
    SELECT asked.run_id
    FROM unnest(CAST(:ids AS text[])) AS asked (run_id)
    LEFT JOIN dagster.runs AS run USING (run_id)
    WHERE run.run_id IS NULL
        OR run.status IN ('SUCCESS', 'FAILURE', 'CANCELED')
        AND run.update_timestamp AT TIME ZONE 'UTC' < coalesce(
            (
                SELECT min(
                    coalesce(
                        (CAST(:cutoffs AS jsonb) ->> own.pipeline_id::text)::timestamptz,
                        CAST(:cutoff AS timestamptz)
                    )
                )
                FROM rat.runs AS own
                WHERE own.dagster_run_id = run.run_id
            ),
            CAST(:cutoff AS timestamptz)
        )
    ORDER BY asked.run_id
""")


def find_printed(scene: Scene) -> Iterator[Batch]:
    """What the steps of old runs printed, on this machine and in a store in S3."""
    root = scene.whole.settings.home / "dagster" / "storage"
    local = {each.name: each for each in children(root)}
    for old in find_old(scene, [*local]):
        some = [local[each] for each in old]
        yield Batch({"compute_logs": len(old)}, partial(remove, some))
    store = scene.whole.store
    if isinstance(store.root, Path):
        return
    for old in find_old(scene, store.folders(COMPUTE_LOGS)):
        yield Batch({"compute_logs": len(old)}, partial(remove_stored, store, old))


def find_old(scene: Scene, names: Sequence[str]) -> Iterator[list[str]]:
    """Those of the *names* that are ids of old runs, some at once."""
    ids = [each for each in names if as_uuid(each) is not None]
    for start in range(0, len(ids), AT_ONCE):
        some = ids[start : start + AT_ONCE]
        values = scene.cutoffs("logs") | {"ids": some}
        del values["latest"]
        with scene.whole.metadata.transaction() as tx:
            old = [str(each) for each in tx.scalars(PRINTED, values)]
        if old:
            yield old


def remove_stored(store: Store, run_ids: Sequence[str]) -> None:
    """Remove what the steps of these runs printed."""
    for run_id in run_ids:
        for key in store.list(f"{COMPUTE_LOGS}/{run_id}"):
            store.delete(key)


def children(root: Path) -> list[Path]:
    """What is in a folder, in order; nothing is in one that does not exist."""
    return sorted(root.iterdir()) if root.is_dir() else []


def remove(folders: Sequence[Path]) -> None:
    """Remove folders with all that is in them."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


CHORES = (
    Chore("logs of runs", ("run_logs",), find),
    Chore("what steps printed", ("compute_logs",), find_printed),
)
