"""Versions of data: what a publication made of each partition, what it had read, and how far it came.

They belong to the generation of the table that the run was launched with. Everything is computed
before the merge (`rat_assets.facts`) and stated in the publication's transaction; when a partition
was made is the database's time of the publication. Which partitions a write touched is
`lake.partitions`.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from rat_resources.lake.partitions import ALL
from rat_resources.metadata.zeros import as_json
from rat_resources.names import TableName
from rat_resources.runs import Pin

Facts = Mapping[str, Any]
PartitionVersions = Mapping[str, datetime]


@dataclass(frozen=True)
class Generation:
    """The generation of a table that a task publishes, and the job that does."""

    dataset: uuid.UUID
    version: uuid.UUID
    job: uuid.UUID


def generation_of(tx: Session, task_id: uuid.UUID) -> Generation | None:
    """What a task publishes; None where its version of the DAG pins no generation."""
    row = tx.execute(GENERATION, {"task_id": task_id}).one_or_none()
    return None if row is None else Generation(*row)


GENERATION = text("""
    SELECT dataset.id, pin.dataset_version, job.id
    FROM trace.tasks AS task
    JOIN trace.jobs AS job ON job.id = task.job_id
    JOIN trace.datasets AS dataset
        ON dataset.org_id = job.org_id
        AND dataset.producer_dag_name = job.dag_name
        AND dataset.producer_job_name = job.name
    JOIN trace.dag_version_datasets AS pin
        ON pin.dag_version_id = job.dag_version_id AND pin.dataset_uuid = dataset.id
    WHERE task.id = :task_id
    ORDER BY dataset.producer_output_index
    LIMIT 1
""")


# What was made.


def known_partitions(tx: Session, table: TableName) -> frozenset[str]:
    """The partitions that a table had after its last publication."""
    return frozenset(
        tx.scalars(
            text(f"{NEWEST_GENERATION} SELECT partition_key FROM standing"),
            {"dataset": str(table)},
        )
    )


# A table is one, whatever the number of its generations: the last publication knew all of it.
NEWEST_GENERATION = """
    WITH standing AS (
        SELECT partition.*
        FROM trace.datasets AS dataset
        JOIN rat.deployment AS deployment ON true
        JOIN trace.orgs AS org ON org.id = dataset.org_id AND org.slug = deployment.org
        JOIN LATERAL (
            SELECT made.dataset_version
            FROM trace.partition_versions AS made
            WHERE made.dataset_uuid = dataset.id
            ORDER BY made.materialized_at DESC
            LIMIT 1
        ) AS newest ON true
        JOIN trace.partition_versions AS partition
            ON partition.dataset_uuid = dataset.id
            AND partition.dataset_version = newest.dataset_version
        WHERE dataset.name = :dataset
    )
"""


def state_partitions(
    tx: Session, made: Generation, facts: Facts, *, at: datetime
) -> None:
    """Write the partitions that a publication made, and forget those that are gone.

    What it left alone is brought along from the generation that stood before, as it was made then.
    """
    ours = {"dataset": made.dataset, "version": made.version}
    if facts["is_whole"]:
        tx.execute(FORGET_OTHERS, ours | {"keys": [each[0] for each in facts["made"]]})
    else:
        tx.execute(BRING_ALONG, ours)
        if facts["gone"]:
            tx.execute(FORGET, ours | {"keys": facts["gone"]})
    tx.execute(
        MADE,
        ours
        | {
            "job": made.job,
            "schema_hash": facts["schema_hash"],
            "location": facts["location"],
            "made": as_json(facts["made"]),
            "at": at,
        },
    )


FORGET_OTHERS = text("""
    DELETE FROM trace.partition_versions
    WHERE dataset_uuid = :dataset AND dataset_version = :version
        AND partition_key <> ALL(:keys)
""")
FORGET = text("""
    DELETE FROM trace.partition_versions
    WHERE dataset_uuid = :dataset AND dataset_version = :version
        AND partition_key = ANY(:keys)
""")
BRING_ALONG = text("""
    WITH newest AS (
        SELECT dataset_version
        FROM trace.partition_versions
        WHERE dataset_uuid = :dataset
        ORDER BY materialized_at DESC, dataset_version = :version DESC
        LIMIT 1
    ),
    -- Of an older time, when this generation was served before.
    outdated AS (
        DELETE FROM trace.partition_versions AS old
        USING newest
        WHERE old.dataset_uuid = :dataset AND old.dataset_version = :version
            AND newest.dataset_version <> :version
            AND NOT EXISTS (
                SELECT FROM trace.partition_versions AS standing
                WHERE standing.dataset_uuid = :dataset
                    AND standing.dataset_version = newest.dataset_version
                    AND standing.partition_key = old.partition_key
            )
    )
    INSERT INTO trace.partition_versions AS old (
        dataset_uuid, dataset_version, partition_key, materialized_at, config_hash, schema_hash,
        location, row_count, bytes
    )
    SELECT
        dataset_uuid, :version, partition_key, materialized_at, config_hash, schema_hash,
        location, row_count, bytes
    FROM trace.partition_versions
    JOIN newest USING (dataset_version)
    WHERE dataset_uuid = :dataset AND dataset_version <> :version
    ON CONFLICT (dataset_uuid, dataset_version, partition_key) DO UPDATE SET
        materialized_at = EXCLUDED.materialized_at,
        config_hash = EXCLUDED.config_hash,
        schema_hash = EXCLUDED.schema_hash,
        location = EXCLUDED.location,
        row_count = EXCLUDED.row_count,
        bytes = EXCLUDED.bytes
""")
MADE = text("""
    INSERT INTO trace.partition_versions (
        dataset_uuid, dataset_version, partition_key, materialized_at, config_hash, schema_hash,
        location, row_count, bytes
    )
    SELECT
        :dataset, :version, made.part ->> 0, :at, job.config_hash, :schema_hash,
        :location, (made.part ->> 1)::bigint, (made.part ->> 2)::bigint
    FROM jsonb_array_elements(CAST(:made AS jsonb)) AS made (part)
    JOIN trace.jobs AS job ON job.id = :job
    ON CONFLICT (dataset_uuid, dataset_version, partition_key) DO UPDATE SET
        materialized_at = EXCLUDED.materialized_at,
        config_hash = EXCLUDED.config_hash,
        schema_hash = EXCLUDED.schema_hash,
        location = EXCLUDED.location,
        row_count = EXCLUDED.row_count,
        bytes = EXCLUDED.bytes
""")


# What was read.


def find_versions(
    tx: Session, pins: Sequence[Pin]
) -> dict[TableName, PartitionVersions]:
    """The versions of the partitions that stood when each pinned table was published.

    One statement sees a table and its partitions as one publication left them. Where that is
    another publication than the pinned one, what the publications themselves stated tells; a table
    that no publication of ours made has no versions, and is left out.
    """
    names = {str(each.table): each for each in pins}
    standing: dict[TableName, dict[str, datetime]] = {}
    pinned = {
        "names": list(names),
        "locations": [each.metadata_location for each in pins],
    }
    for row in tx.execute(STANDING, pinned):
        pin = names[row.dataset]
        standing.setdefault(pin.table, {})[row.partition_key] = row.materialized_at
    before = {
        pin.table: look_back(tx, pin) for pin in pins if pin.table not in standing
    }
    return {**standing, **{table: known for table, known in before.items() if known}}


STANDING = text("""
    SELECT
        dataset.name AS dataset,
        partition.partition_key,
        partition.materialized_at
    FROM unnest(CAST(:names AS text[]), CAST(:locations AS text[])) AS pin (name, location)
    JOIN rat.iceberg_tables AS published
        ON concat_ws('.', published.namespace, published.layer, published.name) = pin.name
        -- Maintenance wrote the same rows to other files.
        AND rat.published_location(published.metadata_location)
            = rat.published_location(pin.location)
    JOIN rat.deployment AS deployment ON true
    JOIN trace.orgs AS org ON org.slug = deployment.org
    JOIN trace.datasets AS dataset ON dataset.org_id = org.id AND dataset.name = pin.name
    JOIN LATERAL (
        SELECT made.dataset_version
        FROM trace.partition_versions AS made
        WHERE made.dataset_uuid = dataset.id
        ORDER BY made.materialized_at DESC
        LIMIT 1
    ) AS newest ON true
    JOIN trace.partition_versions AS partition
        ON partition.dataset_uuid = dataset.id
        AND partition.dataset_version = newest.dataset_version
""")


def look_back(tx: Session, pin: Pin) -> dict[str, datetime]:
    """The versions after the very publication that made a pinned table, by its own words."""
    wanted = {"table": str(pin.table), "location": pin.metadata_location}
    return {
        key: made.at for key, made in replay(tx.execute(MADE_UNTIL, wanted)).items()
    }


PUBLISHED = """
    SELECT
        publication.run_id,
        publication.published_at,
        publication.facts -> 'partitions' AS partitions,
        publication.facts -> 'table' AS "table"
    FROM rat.publications AS publication
    JOIN rat.pipelines AS pipeline ON pipeline.id = publication.pipeline_id
    WHERE concat_ws('.', pipeline.namespace, pipeline.layer, pipeline.name) = :table
        AND publication.state IN ('published', 'closed')
        AND publication.facts ->> 'unchanged' = 'false'
        AND jsonb_typeof(publication.facts -> 'table') = 'object'
"""
MADE_UNTIL = text(f"""
    WITH published AS ({PUBLISHED}),
    pinned AS (
        SELECT min(published_at) AS published_at
        FROM published
        WHERE "table" ->> 'metadata_location' = rat.published_location(:location)
    ),
    -- Nothing of before the last whole one is left.
    whole AS (
        SELECT max(published.published_at) AS published_at
        FROM published, pinned
        WHERE published.published_at <= pinned.published_at
            AND coalesce((partitions ->> 'is_whole')::boolean, true)
    )
    SELECT published.*
    FROM published, pinned, whole
    WHERE published.published_at BETWEEN whole.published_at AND pinned.published_at
    ORDER BY published.published_at
""")


@dataclass(frozen=True)
class Made:
    """What a publication once said of a partition."""

    run_id: uuid.UUID
    at: datetime
    rows: int | None
    bytes: int | None
    schema_hash: str | None
    location: str


def replay(published: Iterable[Row[Any]]) -> dict[str, Made]:
    """The partitions that stand after these publications, each by the one that made it last."""
    standing: dict[str, Made] = {}
    for each in published:
        said = each.partitions or partitions_of_old(each.table)
        if said["is_whole"]:
            standing.clear()
        for key in said["gone"]:
            standing.pop(key, None)
        for key, rows, size in said["made"]:
            standing[key] = Made(
                each.run_id,
                each.published_at,
                rows,
                size,
                said["schema_hash"],
                said["location"],
            )
    return standing


def partitions_of_old(table: Facts) -> Facts:
    """What a publication of an older RAT, which told no partitions apart, says of them."""
    return {
        "is_whole": True,
        "made": [[ALL, table["row_count"], table["size_bytes"]]],
        "gone": [],
        "schema_hash": None,
        "location": table["metadata_location"],
    }


# What a task read.


def state_inputs(tx: Session, task_id: uuid.UUID, read: Facts) -> None:
    """Write which versions of which partitions a task read."""
    inputs = [
        [dataset, key, version]
        for dataset, versions in read.items()
        for key, version in versions.items()
    ]
    if inputs:
        tx.execute(READ, {"task_id": task_id, "inputs": as_json(inputs)})


READ = text("""
    INSERT INTO trace.task_inputs
        (task_id, input_dataset_uuid, input_partition_key, input_version)
    SELECT task.id, dataset.id, input.it ->> 1, (input.it ->> 2)::timestamptz
    FROM jsonb_array_elements(CAST(:inputs AS jsonb)) AS input (it)
    JOIN trace.tasks AS task ON task.id = :task_id
    JOIN trace.jobs AS job ON job.id = task.job_id
    JOIN trace.datasets AS dataset
        ON dataset.org_id = job.org_id AND dataset.name = input.it ->> 0
    ON CONFLICT (task_id, input_dataset_uuid, input_partition_key)
        DO UPDATE SET input_version = EXCLUDED.input_version
""")
