"""Invalidations: who did something about them, who has yet to, and which of them are over.

An invalidation is over when every direct dependent of that time has done something about it; those
that a later release brings are none of its concern.
"""

from rat_resources.audit.comparison import RECONCILE, SOMEBODY, Comparison, never
from rat_resources.invalidations import OUTSTANDING
from rat_resources.wishes import INVALIDATION

STATED = """
SELECT
    publication.run_id,
    publication.facts -> 'invalidations' AS said,
    pipeline.namespace AS dag_name,
    pipeline.layer || '.' || pipeline.name AS job
FROM rat.publications AS publication
JOIN rat.pipelines AS pipeline ON pipeline.id = publication.pipeline_id
WHERE publication.state IN ('published', 'closed')
    AND jsonb_typeof(publication.facts -> 'invalidations') = 'object'
"""

# What a publication says it did, and what its readers were to be told.
UNSTATED = f"""
WITH stated AS ({STATED})
SELECT taken.id, stated.run_id::text AS run, 'processed by ' || stated.job AS lacks
FROM stated
CROSS JOIN LATERAL jsonb_array_elements_text(stated.said -> 'taken') AS taken (id)
WHERE NOT EXISTS (
    SELECT FROM trace.data_invalidations AS told
    JOIN trace.jobs AS job ON job.id = ANY(told.processed_by)
    WHERE told.id = taken.id::uuid AND (job.dag_name, job.name) = (stated.dag_name, stated.job)
)
UNION ALL
SELECT stated.run_id::text, stated.run_id::text, 'its own'
FROM stated
JOIN trace.current_dataset_versions AS served
    ON served.dataset = stated.dag_name || '.' || stated.job
WHERE jsonb_typeof(stated.said -> 'emits') = 'object'
    AND stated.run_id::text NOT IN (
        SELECT told.source_event ->> 'run'
        FROM trace.data_invalidations AS told
        WHERE told.source_event ? 'run'
    )
"""

# Told in this release, and all that it told have done something.
OVER = f"""
SELECT told.id::text AS id, told.created_at::text AS created_at
FROM trace.data_invalidations AS told
WHERE told.processed_at IS NULL
    AND told.problem IS NULL
    AND told.routed_release = (SELECT release_number FROM rat.current_release)
    AND EXISTS (
        SELECT FROM trace.current_dataset_versions AS served
        WHERE (served.dataset_uuid, served.dataset_version)
            = (told.dataset_uuid, told.dataset_version)
    )
    AND told.id NOT IN (SELECT invalidation_id FROM ({OUTSTANDING}) AS left_over)
"""

# By a job that has been active since before the invalidation was made.
NOT_OVER = """
SELECT told.id::text AS id, reader.dag_name || '.' || reader.name AS reader
FROM trace.data_invalidations AS told
JOIN trace.jobs AS reader
    ON reader.active
    AND reader.updated_at < told.created_at
    AND reader.input_datasets @> ARRAY[told.dataset_uuid::text]
WHERE told.processed_at IS NOT NULL
    AND NOT EXISTS (
        SELECT FROM trace.jobs AS done
        WHERE done.id = ANY(told.processed_by)
            AND (done.org_id, done.dag_name, done.name)
                = (reader.org_id, reader.dag_name, reader.name)
    )
"""

# Nobody comes to it: neither a run that has its wish nor a wish that waits for one.
FORGOTTEN = f"""
SELECT left_over.invalidation_id::text AS id, left_over.dag_name || '.' || left_over.name AS reader
FROM ({OUTSTANDING}) AS left_over
JOIN trace.data_invalidations AS told ON told.id = left_over.invalidation_id
JOIN rat.pipelines AS pipeline
    ON pipeline.deleted_at IS NULL
    AND pipeline.namespace = left_over.dag_name
    AND pipeline.layer || '.' || pipeline.name = left_over.name
WHERE told.problem IS NULL
    AND told.routed_release = (SELECT release_number FROM rat.current_release)
    AND EXISTS (
        SELECT FROM trace.current_dataset_versions AS served
        WHERE (served.dataset_uuid, served.dataset_version)
            = (told.dataset_uuid, told.dataset_version)
    )
    AND NOT EXISTS (
        SELECT FROM rat.wishes AS wish
        WHERE wish.pipeline_id = pipeline.id AND wish.state <> 'done'
            AND wish.reason = '{INVALIDATION}' || told.id
    )
"""

COMPARISONS: tuple[Comparison, ...] = (
    never(
        "trace.data_invalidations",
        "what publications say of invalidations stands",
        speaker="rat.publications",
        sql=UNSTATED,
        expected="trace.data_invalidations",
        fix=SOMEBODY,
    ),
    never(
        "trace.open_invalidations",
        "an invalidation is open as long as somebody has to do something about it",
        speaker="trace.data_invalidations",
        sql=OVER,
        expected="one that is over",
        fix=RECONCILE,
    ),
    never(
        "trace.closed_invalidations",
        "one is over when every direct dependent has done something about it",
        speaker="trace.data_invalidations",
        sql=NOT_OVER,
        expected="one that is left to do",
        fix=SOMEBODY,
    ),
    never(
        "trace.told_readers",
        "every direct dependent of an open one has a wish for it",
        speaker="trace.data_invalidations",
        sql=FORGOTTEN,
        expected="one that nobody comes to",
        fix=SOMEBODY,
    ),
)
