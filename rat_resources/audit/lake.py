"""The catalog and Postgres: main is where the publications brought it, with the tables that they wrote.

Commits never change, so what is read of the catalog after the snapshot is what it saw.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pyiceberg.table import Table
from sqlalchemy import text

from rat_resources.audit.comparison import (
    RECONCILE,
    SOMEBODY,
    Comparison,
    Scene,
    Side,
    never,
)
from rat_resources.backup.references import RESTORED, RESTORED_AT
from rat_resources.errors import StoreError
from rat_resources.lake.reading import row_count
from rat_resources.lake.types import type_words
from rat_resources.maintenance.records import MAINTENANCE
from rat_resources.names import TableName
from rat_resources.publishing import RUN_ID

AT_ONCE = 200
MOVED = "somebody else committed to main; bring it back to the last publication"

HEAD = "SELECT 'main' AS id, CAST(:head AS text) AS commit"

# With a server facts are stated after the merge, and not always in the order of the merges.
LAST_PUBLICATION = """
WITH moved AS (
    SELECT run.commit, publication.published_at AS at
    FROM rat.publications AS publication
    JOIN rat.runs AS run ON run.id = publication.run_id
    WHERE publication.state IN ('published', 'closed') AND run.commit IS NOT NULL
    UNION ALL
    SELECT commit, finished_at
    FROM rat.maintenance
    WHERE state = 'merged'
)
(
    SELECT 'main' AS id, moved.commit
    FROM moved
    LEFT JOIN unnest(CAST(:commits AS text[])) WITH ORDINALITY AS made(hash, position)
        ON made.hash = moved.commit
    WHERE made.hash IS NOT NULL OR moved.at > CAST(:since AS timestamptz)
    ORDER BY made.position NULLS FIRST, moved.at DESC
    LIMIT 1
)
UNION ALL
SELECT 'main' AS id, CAST(:first AS text) AS commit
WHERE NOT EXISTS (SELECT FROM moved)
"""

HISTORY = """
SELECT * FROM jsonb_to_recordset(CAST(:history AS jsonb)) AS made(id text, run text)
"""

# Merged, or to be merged, by a server that has not answered yet.
UNDECIDED = """
SELECT id::text AS run_id, concat_ws('.', namespace, layer, name) AS name
FROM rat.maintenance
WHERE state = 'intended'
UNION ALL
SELECT publication.run_id::text AS run_id,
    concat_ws('.', pipeline.namespace, pipeline.layer, pipeline.name) AS name
FROM rat.publications AS publication
JOIN rat.pipelines AS pipeline ON pipeline.id = publication.pipeline_id
WHERE publication.state IN ('merging', 'undoing')
"""

PUBLISHED_COMMITS = """
SELECT run.commit AS id, run.id::text AS run
FROM rat.runs AS run
WHERE run.commit IS NOT NULL AND run.finished_at > CAST(:since AS timestamptz)
UNION ALL
SELECT commit, id::text
FROM rat.maintenance
WHERE state = 'merged' AND finished_at > CAST(:since AS timestamptz)
"""

ON_MAIN = f"""
SELECT * FROM jsonb_to_recordset(CAST(:tables AS jsonb)) AS stands(
    id text, row_count bigint, size_bytes bigint, snapshot_id bigint, metadata_location text,
    columns jsonb
)
WHERE id NOT IN (SELECT name FROM ({UNDECIDED}) AS undecided)
"""

KNOWN = f"""
SELECT
    concat_ws('.', known.namespace, known.layer, known.name) AS id,
    known.row_count,
    known.size_bytes,
    known.snapshot_id,
    known.metadata_location,
    coalesce(
        (
            SELECT jsonb_agg(
                jsonb_build_array(named.name, named.type, named.nullable) ORDER BY named.ordinal
            )
            FROM rat.iceberg_columns AS named
            WHERE named.namespace = known.namespace
                AND named.layer = known.layer
                AND named.table_name = known.name
        ),
        '[]'
    ) AS columns
FROM rat.iceberg_tables AS known
WHERE concat_ws('.', known.namespace, known.layer, known.name)
    NOT IN (SELECT name FROM ({UNDECIDED}) AS undecided)
"""

# The lease is given back after the branch.
LEFT_BRANCHES = """
SELECT branch.name AS id, run.status
FROM unnest(CAST(:branches AS text[])) AS branch(name)
JOIN rat.runs AS run
    ON split_part(branch.name, '.', 1) = concat_ws('-', 'run', run.id, run.fence)
WHERE run.status IN ('success', 'failed', 'cancelled')
    AND NOT EXISTS (
        SELECT FROM rat.leases WHERE holder = run.id AND expires_at > now()
    )
"""

STORED = """
SELECT * FROM jsonb_to_recordset(CAST(:objects AS jsonb)) AS stored(id text, content text)
"""

NAMED_OBJECTS = """
SELECT DISTINCT file.value AS id, 'as published' AS content
FROM rat.pipeline_versions AS version
CROSS JOIN LATERAL jsonb_each_text(version.published_versions) AS file
"""


def walk_history(scene: Scene) -> Mapping[str, Any]:
    """Where main is, all that it was before, and the runs that its commits name."""
    past = decided(scene)
    commits = [each.id for each in past.made]
    made = [asdict(each) for each in past.made]
    while made and made[-1]["run"] is None:
        made.pop()  # it was made before the first publication
    return {
        "head": commits[0],
        "first": commits[-1],
        "commits": commits,
        "history": json.dumps(made),
        "since": past.since,
    }


@dataclass(frozen=True)
class Made:
    """A commit of main, and the run or the maintenance that it names."""

    id: str
    run: str | None


@dataclass(frozen=True)
class Past:
    """The commits of main, the newest first, as far as the catalog remembers them."""

    made: tuple[Made, ...]
    since: str = "-infinity"  # what is older is known to Postgres alone


def decided(scene: Scene) -> Past:
    """What main was, without the commits whose runs have yet to hear of them.

    A main that was put back on a new server begins where the old one was.
    """
    undecided = {row.run_id for row in scene.tx.execute(text(UNDECIDED))}
    made: list[Made] = []
    for commit in scene.whole.lake.refs.history(f"@{scene.head}"):
        said = commit.properties
        if RESTORED in said:
            made.append(Made(said[RESTORED], None))
            return Past(tuple(made), said[RESTORED_AT])
        by = said.get(RUN_ID) or said.get(MAINTENANCE)
        if by not in undecided:
            made.append(Made(commit.hash, by))
    return Past(tuple(made))


def read_tables(scene: Scene) -> Mapping[str, Any]:
    """Every table on main, as its own metadata describes it."""
    return {"tables": json.dumps(list(describe_tables(scene)))}


def describe_tables(scene: Scene) -> Iterator[Mapping[str, Any]]:
    """The tables on main, some at a time."""
    lake, at = scene.whole.lake, f"@{scene.head}"
    names = lake.published(at=at)
    for first in range(0, len(names), AT_ONCE):
        some = names[first : first + AT_ONCE]
        for name, table in lake.tables(some, at=at).items():
            yield describe(name, table)


def describe(name: TableName, table: Table) -> Mapping[str, Any]:
    """A table's own word."""
    snapshot = table.current_snapshot()
    summary = snapshot.summary if snapshot else None
    return {
        "id": str(name),
        "row_count": row_count(table),
        "size_bytes": int((summary and summary["total-files-size"]) or 0),
        "snapshot_id": snapshot.snapshot_id if snapshot else None,
        "metadata_location": table.metadata_location,
        "columns": [
            [field.name, type_words(field.field_type), not field.required]
            for field in table.schema().fields
        ],
    }


def read_objects(scene: Scene) -> Mapping[str, Any]:
    """What the store holds of the files of every version."""
    names = (row.id for row in scene.tx.execute(text(NAMED_OBJECTS)))
    return {"objects": json.dumps([check(scene, name) for name in names])}


def check(scene: Scene, name: str) -> Mapping[str, str]:
    """Whether an object is what its name says."""
    try:
        scene.whole.store.get_object(name)
    except StoreError as error:
        return {"id": name, "content": error.message}
    return {"id": name, "content": "as published"}


def list_branches(scene: Scene) -> Mapping[str, Any]:
    """The branches of runs."""
    return {"branches": list(scene.branches)}


COMPARISONS = (
    Comparison(
        "lake.head",
        "main is at the commit of the newest publication or maintenance that moved it",
        Side("the catalog", HEAD),
        Side("rat.runs", LAST_PUBLICATION),
        MOVED,
        walk_history,
    ),
    Comparison(
        "lake.commits",
        "every commit of main is a publication or maintenance, and each of these is on main",
        Side("the catalog", HISTORY),
        Side("rat.runs", PUBLISHED_COMMITS),
        MOVED,
        walk_history,
    ),
    Comparison(
        "lake.tables",
        "every table of main is known, with its rows, snapshot and columns",
        Side("the catalog", ON_MAIN),
        Side("rat.iceberg_tables", KNOWN),
        SOMEBODY,
        read_tables,
    ),
    never(
        "lake.branches",
        "no run that has ended has a branch",
        speaker="the catalog",
        sql=LEFT_BRANCHES,
        expected="a run that has ended",
        fix=RECONCILE,
        gather=list_branches,
    ),
    Comparison(
        "store.objects",
        "the store holds every file of every version, as it was published",
        Side("the store", STORED),
        Side("rat.pipeline_versions", NAMED_OBJECTS),
        "restore it from a backup, or publish anew",
        read_objects,
    ),
)
