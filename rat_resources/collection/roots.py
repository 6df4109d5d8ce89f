"""Roots: everything that needs files of the lake, as the metadata files and snapshots that it names.

What a branch or tag holds, whoever made it, with every snapshot that other engines find there; each state
of main within the retention; and what Postgres may still send somebody to: pins, intents, backups.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, TextClause, text
from sqlalchemy.orm import Session

from rat_resources.errors import NotFoundError
from rat_resources.lake.refs import (
    MAIN,
    Content,
    Entry,
    IcebergTable,
    Key,
    Put,
    Reference,
    Refs,
)
from rat_resources.retention import as_text

# How far the clocks of the database, of a server and of the storage may be apart.
SKEW = timedelta(hours=1)
NO_SNAPSHOT = -1


@dataclass(frozen=True)
class Root:
    """A metadata file that somebody needs, with one of its snapshots or with all of them."""

    table: str
    metadata_location: str
    snapshot_id: int  # NO_SNAPSHOT: the table is empty, or nobody knows
    kind: str  # what is counted
    why: str
    is_whole: bool = False  # with every snapshot that it lists
    # Where it is not, who needs it can do without, at greater cost.
    is_promised: bool = True


def root_of(
    key: Key, content: Content | None, *, kind: str, why: str, is_whole: bool = False
) -> Iterator[Root]:
    """What a key holds as a root; nothing where that is no table."""
    if isinstance(content, IcebergTable):
        name, location = ".".join(key), content.metadata_location
        yield Root(name, location, content.snapshot_id, kind, why, is_whole)


# What branches and tags hold.


def of_main(refs: Refs, head: str) -> Iterator[Root]:
    """What main holds."""
    yield from of_entries(refs.entries(at=f"@{head}"), kind="branches", why=MAIN)


def of_entries(entries: Iterator[Entry], *, kind: str, why: str) -> Iterator[Root]:
    """Tables with all that they list."""
    for entry in entries:
        yield from root_of(entry.key, entry.content, kind=kind, why=why, is_whole=True)


def of_reference(refs: Refs, reference: Reference, *, main: str) -> Iterator[Root]:
    """What a branch or tag holds that main does not."""
    why = f"{reference.type.lower()} {reference.name}"
    yield from of_commit(refs, reference.hash, main=main, kind="branches", why=why)


def of_commit(
    refs: Refs, commit: str, *, main: str, kind: str, why: str
) -> Iterator[Root]:
    """What a commit holds that main does not."""
    for each in refs.diff(f"@{main}", after=f"@{commit}"):
        yield from root_of(each.key, each.after, kind=kind, why=why, is_whole=True)


def of_history(refs: Refs, head: str, *, since: datetime | None) -> Iterator[Root]:
    """Every state of main since a moment, the newest first, and the one that stood in that moment."""
    for commit in refs.history(f"@{head}"):
        if since is not None and commit.time < since - SKEW:
            entries = refs.entries(at=f"@{commit.hash}")
            for entry in entries:
                why = f"commit {commit.hash[:12]} of {MAIN}"
                yield from root_of(entry.key, entry.content, kind="history", why=why)
            return
        for each in commit.operations:
            if isinstance(each, Put):
                why = f"commit {commit.hash[:12]} of {MAIN}"
                yield from root_of(each.key, each.content, kind="history", why=why)


# What Postgres knows of.


@dataclass(frozen=True)
class Question:
    """A question for metadata files and snapshots, and what who asked needs them for."""

    kind: str
    query: TextClause
    is_promised: bool = True


def of_postgres(
    tx: Session, *, since: datetime | None, backups: datetime | None
) -> Iterator[Root]:
    """What runs, intents, invalidations, published tables and backups name."""
    values = {"since": as_text(since), "backups": as_text(backups)}
    for question in QUESTIONS:
        for row in tx.execute(question.query, values):
            yield from_row(row, question)


def from_row(row: Row[Any], question: Question) -> Root:
    """The root that a row names."""
    snapshot = NO_SNAPSHOT if row.snapshot_id is None else int(row.snapshot_id)
    return Root(
        row.name,
        row.metadata_location,
        snapshot,
        question.kind,
        row.why,
        is_promised=question.is_promised,
    )


# Of what goes on, and of what may be run again.
PINS = text("""
    SELECT DISTINCT ON (input.metadata_location, input.snapshot_id)
        concat_ws('.', input.namespace, input.layer, input.name) AS name,
        input.metadata_location, input.snapshot_id, concat('run ', run.id) AS why
    FROM rat.runs AS run
    JOIN rat.run_inputs AS input ON input.run_id = run.id
    WHERE run.status IN ('pending', 'running') OR run.created_at >= CAST(:since AS timestamptz)
""")
# What the next run compares with, to make anew only what has changed: without, it makes all.
LAST_PINS = text("""
    SELECT DISTINCT ON (input.metadata_location, input.snapshot_id)
        concat_ws('.', input.namespace, input.layer, input.name) AS name,
        input.metadata_location, input.snapshot_id, concat('run ', last.id) AS why
    FROM rat.pipelines AS pipeline
    CROSS JOIN LATERAL (
        (
            SELECT id
            FROM rat.runs
            WHERE pipeline_id = pipeline.id AND status = 'success'
            ORDER BY finished_at DESC
            LIMIT 1
        )
        UNION
        (
            SELECT id
            FROM rat.runs
            WHERE pipeline_id = pipeline.id AND status = 'success' AND NOT unchanged
            ORDER BY finished_at DESC
            LIMIT 1
        )
    ) AS last
    JOIN rat.run_inputs AS input ON input.run_id = last.id
""")
BEFORE = text("""
    SELECT
        dataset.name, before ->> 'metadata_location' AS metadata_location,
        before ->> 'snapshot_id' AS snapshot_id, concat('invalidation ', told.id) AS why
    FROM trace.data_invalidations AS told
    JOIN trace.datasets AS dataset ON dataset.id = told.dataset_uuid
    CROSS JOIN LATERAL (SELECT told.source_event -> 'snapshot_before') AS event (before)
    WHERE told.processed_at IS NULL AND before ->> 'metadata_location' IS NOT NULL
""")
PUBLISHED = text("""
    SELECT
        concat_ws('.', namespace, layer, name) AS name, metadata_location, snapshot_id,
        'its last publication' AS why
    FROM rat.iceberg_tables
""")
INTENDED = text("""
    SELECT
        concat_ws('.', made ->> 'namespace', made ->> 'layer', made ->> 'name') AS name,
        made ->> 'metadata_location' AS metadata_location,
        made ->> 'snapshot_id' AS snapshot_id, concat('intent of run ', run_id) AS why
    FROM rat.publications
    CROSS JOIN LATERAL (SELECT facts -> 'table') AS intended (made)
    WHERE state IN ('intended', 'merging', 'undoing', 'published')
        AND made ->> 'metadata_location' IS NOT NULL
""")
BACKUPS = text("""
    SELECT
        held ->> 'table' AS name, held ->> 'metadata_location' AS metadata_location,
        held ->> 'snapshot_id' AS snapshot_id, concat('backup ', path) AS why
    FROM rat.backups
    CROSS JOIN LATERAL jsonb_array_elements(tables) AS held
    WHERE made_at >= CAST(:backups AS timestamptz)
""")

QUESTIONS = (
    Question("runs", PINS),
    Question("runs", LAST_PINS, is_promised=False),
    Question("invalidations", BEFORE, is_promised=False),
    Question("publications", PUBLISHED, is_promised=False),
    Question("publications", INTENDED),
    Question("backups", BACKUPS),
)


# Their branches may be gone, and somebody merge them nevertheless.
OPEN = text("""
    SELECT run_id, from_hash
    FROM rat.publications
    WHERE state IN ('intended', 'merging', 'undoing')
""")


def of_intents(refs: Refs, tx: Session, *, main: str) -> Iterator[Root]:
    """What the commits hold that open intents would publish."""
    for row in tx.execute(OPEN):
        why = f"intent of run {row.run_id}"
        try:
            yield from of_commit(
                refs, row.from_hash, main=main, kind="publications", why=why
            )
        except NotFoundError:
            continue  # then nobody can merge it
