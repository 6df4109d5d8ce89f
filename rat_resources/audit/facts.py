"""Publications and the tables that they fill: what was intended is what stands.

A publication keeps every fact that it states. The facts of the newest one of a table are what the
catalog's tables in Postgres say, and those of each are its run and its test results.
"""

import json
from collections.abc import Mapping

from sqlalchemy import select

from rat_resources.audit.comparison import (
    RECONCILE,
    SOMEBODY,
    Comparison,
    Scene,
    Side,
    never,
)
from rat_resources.metadata.pipelines import Pipeline
from rat_resources.metadata.runs import Run
from rat_resources.names import TableName
from rat_resources.runs import run_id_of

STANDS = "publication.state IN ('published', 'closed')"

INTENDED_RUNS = f"""
SELECT
    publication.run_id::text AS id,
    'success' AS status,
    publication.pipeline_id,
    publication.branch,
    publication.fence,
    (publication.facts ->> 'rows_written')::bigint AS rows_written,
    (publication.facts ->> 'rows_total')::bigint AS rows_total,
    (publication.facts ->> 'snapshot_id')::bigint AS snapshot_id,
    (publication.facts ->> 'unchanged')::boolean AS unchanged,
    publication.facts #>> '{{changes,added}}' AS added
FROM rat.publications AS publication
WHERE {STANDS}
"""

SUCCESSFUL_RUNS = """
SELECT
    run.id::text AS id,
    run.status,
    run.pipeline_id,
    run.branch,
    run.fence,
    run.rows_written,
    run.rows_total,
    run.snapshot_id,
    run.unchanged,
    run.changes ->> 'added' AS added
FROM rat.runs AS run
WHERE run.status = 'success'
    OR EXISTS (
        SELECT FROM rat.publications
        WHERE run_id = run.id AND state IN ('published', 'closed')
    )
"""

INTENDED_RESULTS = f"""
SELECT
    concat_ws(' ', publication.run_id, stated.name) AS id,
    stated.status,
    stated.value,
    stated.duration_ms
FROM rat.publications AS publication
CROSS JOIN LATERAL jsonb_to_recordset(publication.facts -> 'results')
    AS stated(name text, status text, value numeric, duration_ms int)
JOIN rat.quality_tests AS test
    ON test.pipeline_id = publication.pipeline_id AND test.name = stated.name
WHERE {STANDS}
"""

RESULTS = f"""
SELECT
    concat_ws(' ', result.run_id, test.name) AS id,
    result.status,
    result.value,
    result.duration_ms
FROM rat.quality_results AS result
JOIN rat.quality_tests AS test ON test.id = result.test_id
JOIN rat.publications AS publication ON publication.run_id = result.run_id
WHERE {STANDS}
"""

NEWEST_TABLES = f"""
SELECT DISTINCT ON (stated.namespace, stated.layer, stated.name)
    stated.*,
    publication.facts -> 'columns' AS columns
FROM rat.publications AS publication
CROSS JOIN LATERAL jsonb_to_record(publication.facts -> 'table') AS stated(
    namespace text, layer text, name text, row_count bigint, size_bytes bigint,
    snapshot_id bigint, metadata_location text
)
WHERE {STANDS} AND publication.facts -> 'table' <> 'null'
ORDER BY stated.namespace, stated.layer, stated.name, publication.published_at DESC
"""

INTENDED_TABLES = f"""
SELECT
    concat_ws('.', newest.namespace, newest.layer, newest.name) AS id,
    newest.row_count,
    coalesce(maintained.size_bytes, newest.size_bytes) AS size_bytes,
    coalesce(maintained.snapshot_id, newest.snapshot_id) AS snapshot_id,
    coalesce(maintained.metadata_location, newest.metadata_location) AS metadata_location
FROM ({NEWEST_TABLES}) AS newest
LEFT JOIN LATERAL (
    SELECT done.*
    FROM rat.maintenance AS done
    WHERE done.state = 'merged'
        AND done.original_location = rat.published_location(newest.metadata_location)
    ORDER BY done.finished_at DESC
    LIMIT 1
) AS maintained ON true
"""

TABLES = """
SELECT
    concat_ws('.', namespace, layer, name) AS id,
    row_count, size_bytes, snapshot_id, metadata_location
FROM rat.iceberg_tables
"""

INTENDED_COLUMNS = f"""
SELECT
    concat_ws('.', newest.namespace, newest.layer, newest.name, stated.name) AS id,
    stated.ordinal, stated.type, stated.nullable
FROM ({NEWEST_TABLES}) AS newest
CROSS JOIN LATERAL jsonb_to_recordset(newest.columns)
    AS stated(name text, ordinal int, type text, nullable boolean)
"""

COLUMNS = """
SELECT
    concat_ws('.', namespace, layer, table_name, name) AS id,
    ordinal, type, nullable
FROM rat.iceberg_columns
"""

NEWEST_LINEAGE = f"""
SELECT DISTINCT ON (publication.facts #>> '{{lineage,dataset}}')
    publication.facts #>> '{{lineage,dataset}}' AS dataset,
    publication.facts -> 'lineage' AS lineage,
    publication.pipeline_id
FROM rat.publications AS publication
WHERE {STANDS} AND publication.facts -> 'lineage' <> 'null'
ORDER BY publication.facts #>> '{{lineage,dataset}}', publication.published_at DESC
"""

INTENDED_TRACES = f"""
SELECT
    dataset AS id,
    pipeline_id,
    lineage -> 'columns' AS columns,
    lineage -> 'untold' AS untold,
    nullif(lineage -> 'deciding', 'null') AS deciding,
    lineage ->> 'query_hash' AS query_hash
FROM ({NEWEST_LINEAGE}) AS newest
"""

TRACES = """
SELECT
    dataset AS id,
    pipeline_id,
    to_jsonb(columns) AS columns,
    to_jsonb(untold) AS untold,
    deciding,
    query_hash
FROM rat.traced_tables
"""

INTENDED_EDGES = f"""
SELECT
    concat_ws(' ', newest.dataset || '.' || (edge ->> 0), '<-', edge ->> 1, edge ->> 2) AS id,
    newest.pipeline_id
FROM ({NEWEST_LINEAGE}) AS newest
CROSS JOIN LATERAL jsonb_array_elements(newest.lineage -> 'edges') AS edge
"""

EDGES = """
SELECT
    concat_ws(' ', output_dataset || '.' || output_column, '<-', input_dataset, input_column)
        AS id,
    pipeline_id
FROM rat.column_lineage
"""

# What a run takes and gives back at its end belongs to one transaction.
LEFT_CLAIMS = """
SELECT claim.file_id::text AS id, claim.state, run.status AS run_status
FROM rat.landing_claims AS claim
JOIN rat.runs AS run ON run.id = claim.run_id
WHERE claim.state = 'claimed' AND run.status IN ('success', 'failed', 'cancelled')
"""

LEFT_WISHES = """
SELECT wish.id::text AS id, wish.label, run.status AS run_status
FROM rat.wishes AS wish
JOIN rat.runs AS run ON run.id = wish.run_id
WHERE wish.state = 'taken' AND run.status IN ('success', 'failed', 'cancelled')
"""

# A file that a run of this pipeline read and published is committed, by it or by an earlier one.
READ_FILES = """
SELECT
    concat_ws(' ', pinned.file_id, run.pipeline_id) AS id,
    'committed' AS state
FROM rat.run_files AS pinned
JOIN rat.runs AS run ON run.id = pinned.run_id
WHERE run.status = 'success'
GROUP BY pinned.file_id, run.pipeline_id
"""

COMMITTED_FILES = """
SELECT
    concat_ws(' ', claim.file_id, claim.pipeline_id) AS id,
    claim.state
FROM rat.landing_claims AS claim
WHERE claim.run_id IS NOT NULL
    AND (
        claim.state = 'committed'
        OR EXISTS (
            SELECT FROM rat.run_files AS pinned
            JOIN rat.runs AS run ON run.id = pinned.run_id
            WHERE pinned.file_id = claim.file_id
                AND run.pipeline_id = claim.pipeline_id
                AND run.status = 'success'
        )
    )
"""

OTHER_IDS = """
SELECT * FROM jsonb_to_recordset(CAST(:other_ids AS jsonb))
    AS run(id text, dagster_run_id text, "table" text, attempt int)
"""


def find_other_ids(scene: Scene) -> Mapping[str, str]:
    """The runs whose id is not that of their Dagster run, table and attempt."""
    runs = (
        select(
            Run.id,
            Run.dagster_run_id,
            Run.attempt,
            Pipeline.namespace,
            Pipeline.layer,
            Pipeline.name,
        )
        .join(Pipeline, Pipeline.id == Run.pipeline_id)
        .where(Run.dagster_run_id.is_not(None))
        .execution_options(yield_per=10_000)
    )
    found = []
    for run_id, dagster_run_id, attempt, *key in scene.tx.execute(runs):
        table = TableName(*key)
        if run_id != run_id_of(dagster_run_id or "", table, attempt=attempt):
            found.append(
                {
                    "id": str(run_id),
                    "dagster_run_id": dagster_run_id,
                    "table": str(table),
                    "attempt": attempt,
                }
            )
    return {"other_ids": json.dumps(found)}


COMPARISONS = (
    Comparison(
        "rat.runs",
        "a run succeeded if and only if its publication stands, with the same numbers",
        Side("rat.publications", INTENDED_RUNS),
        Side("rat.runs", SUCCESSFUL_RUNS),
        SOMEBODY,
    ),
    Comparison(
        "rat.quality_results",
        "every result that a publication states stands, and no other",
        Side("rat.publications", INTENDED_RESULTS),
        Side("rat.quality_results", RESULTS),
        SOMEBODY,
    ),
    Comparison(
        "rat.iceberg_tables",
        "a table is as its newest publication left it",
        Side("rat.publications", INTENDED_TABLES),
        Side("rat.iceberg_tables", TABLES),
        SOMEBODY,
    ),
    Comparison(
        "rat.iceberg_columns",
        "so are its columns",
        Side("rat.publications", INTENDED_COLUMNS),
        Side("rat.iceberg_columns", COLUMNS),
        SOMEBODY,
    ),
    Comparison(
        "rat.traced_tables",
        "what is known of a table's lineage is what was last found out",
        Side("rat.publications", INTENDED_TRACES),
        Side("rat.traced_tables", TRACES),
        SOMEBODY,
    ),
    Comparison(
        "rat.column_lineage",
        "so are the arrows between columns",
        Side("rat.publications", INTENDED_EDGES),
        Side("rat.column_lineage", EDGES),
        SOMEBODY,
    ),
    Comparison(
        "rat.landing_files",
        "the files that publications read are committed, and no others",
        Side("rat.run_files", READ_FILES),
        Side("rat.landing_claims", COMMITTED_FILES),
        SOMEBODY,
    ),
    never(
        "rat.run_ids",
        "the id of a run is that of its Dagster run, its table and the attempt",
        speaker="rat.runs",
        sql=OTHER_IDS,
        expected="the id",
        fix=SOMEBODY,
        gather=find_other_ids,
    ),
    never(
        "rat.landing_claims",
        "no run that has ended claims a file",
        speaker="rat.landing_claims",
        sql=LEFT_CLAIMS,
        expected="a run that has ended",
        fix=RECONCILE,
    ),
    never(
        "rat.wishes",
        "no run that has ended holds a wish",
        speaker="rat.wishes",
        sql=LEFT_WISHES,
        expected="a run that has ended",
        fix=RECONCILE,
    ),
)
