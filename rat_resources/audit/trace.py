"""rat and trace: what is published is what Trace serves, under the names of its older shape too.

What a version of a DAG holds follows from the published pipelines alone, its ids as well; what was
served before is judged by what refers to it.
"""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import text

from rat_resources.audit.comparison import (
    MIRROR,
    SOMEBODY,
    Comparison,
    Scene,
    Side,
    never,
)
from rat_resources.mirror import dags
from rat_resources.mirror.definitions import version_hash
from rat_resources.mirror.ids import trace_id

ORG = """
SELECT deployment.org AS id, true AS has_administrator
FROM rat.deployment AS deployment
"""

ORGS = """
SELECT
    org.slug AS id,
    EXISTS (
        SELECT FROM trace.users AS member
        WHERE member.org_id = org.id
            AND member.external_id = org.slug || '/admin'
            AND member.role = 'admin'
    ) AS has_administrator
FROM trace.orgs AS org
JOIN rat.deployment AS deployment ON deployment.org = org.slug
"""

VERSIONS = """
SELECT id, dag_name, yaml_hash, 'serving' AS state, id AS served
FROM jsonb_to_recordset(CAST(:versions AS jsonb)) AS told(id text, dag_name text, yaml_hash text)
"""

SERVED = f"""
SELECT
    version.id::text AS id,
    version.dag_name,
    version.yaml_hash,
    version.state,
    current.dag_version_id::text AS served
FROM trace.dag_versions AS version
LEFT JOIN trace.dag_current_versions AS current
    ON current.org_id = version.org_id AND current.dag_name = version.dag_name
JOIN trace.orgs AS org ON org.id = version.org_id
JOIN rat.deployment AS deployment ON deployment.org = org.slug
WHERE version.state = 'serving'
    OR version.id = current.dag_version_id
    OR version.id::text IN (SELECT id FROM ({VERSIONS}) AS wanted)
"""

JOBS = """
SELECT
    dag_name || '.' || name AS id, job, dag_version_id AS version, activation, operator,
    execution_strategy, source, config, config_hash, input_datasets, output_datasets,
    update_strategy, unique_key, max_attempts, true AS active
FROM jsonb_to_recordset(CAST(:jobs AS jsonb)) AS told(
    job text, name text, dag_name text, dag_version_id text, activation text, operator text,
    execution_strategy text, source jsonb, config jsonb, config_hash text, input_datasets text[],
    output_datasets text[], update_strategy text, unique_key text[], max_attempts int
)
"""

ACTIVE_JOBS = """
SELECT
    job.dag_name || '.' || job.name AS id, job.id::text AS job, job.dag_version_id::text AS version,
    job.activation, job.operator, job.execution_strategy, job.source, job.config,
    job.config_hash, job.input_datasets, job.output_datasets, job.update_strategy,
    job.unique_key, job.max_attempts, job.active
FROM trace.jobs AS job
WHERE job.active
    OR job.dag_version_id IN (SELECT dag_version_id FROM trace.dag_current_versions)
"""

DATASETS = """
SELECT name AS id, dataset, producer_dag_name AS dag, producer_job_name AS job, storage
FROM jsonb_to_recordset(CAST(:datasets AS jsonb)) AS told(
    dataset text, name text, producer_dag_name text, producer_job_name text, storage jsonb
)
"""

# Of what is no longer published the datasets stay.
KNOWN_DATASETS = f"""
SELECT
    dataset.name AS id, dataset.id::text AS dataset, dataset.producer_dag_name AS dag,
    dataset.producer_job_name AS job, dataset.storage
FROM trace.datasets AS dataset
WHERE dataset.name IN (SELECT id FROM ({DATASETS}) AS wanted)
    OR dataset.id::text IN (SELECT dataset FROM ({DATASETS}) AS wanted)
"""

PINS = """
SELECT
    concat_ws(' ', dag_version_id, dataset_uuid) AS id, dataset_version, config_hash,
    storage_location
FROM jsonb_to_recordset(CAST(:pins AS jsonb)) AS told(
    dag_version_id text, dataset_uuid text, dataset_version text, config_hash text,
    storage_location text
)
"""

SERVED_PINS = """
SELECT
    concat_ws(' ', pin.dag_version_id, pin.dataset_uuid) AS id,
    pin.dataset_version::text AS dataset_version,
    generation.config_hash,
    generation.storage_location
FROM trace.dag_version_datasets AS pin
JOIN trace.dag_current_versions AS current ON current.dag_version_id = pin.dag_version_id
LEFT JOIN trace.dataset_versions AS generation
    ON generation.id = pin.dataset_version AND generation.dataset_uuid = pin.dataset_uuid
"""

OTHER_IDS = """
SELECT * FROM jsonb_to_recordset(CAST(:other_versions AS jsonb))
    AS version(id text, dag_name text, yaml_hash text)
"""

BASES = """
SELECT 'jobs' AS id, count(*) AS rows FROM trace.jobs WHERE active
UNION ALL
SELECT 'task_inputs', count(*) FROM trace.task_inputs
UNION ALL
SELECT 'column_lineage', count(*) FROM trace.column_lineage
UNION ALL
SELECT 'partition_versions', count(*)
FROM trace.partition_versions JOIN trace.current_dataset_versions
    USING (dataset_uuid, dataset_version)
UNION ALL
SELECT 'dataset_cursors', count(*)
FROM trace.dataset_cursors JOIN trace.current_dataset_versions
    USING (dataset_uuid, dataset_version)
UNION ALL
SELECT 'data_invalidations', count(*)
FROM trace.data_invalidations JOIN trace.current_dataset_versions
    USING (dataset_uuid, dataset_version)
"""

VIEWS = "\nUNION ALL\n".join(
    f"SELECT '{name}' AS id, count(*) AS rows FROM trace_by_name.{name}"
    for name in (
        "jobs",
        "task_inputs",
        "column_lineage",
        "partition_versions",
        "dataset_cursors",
        "data_invalidations",
    )
)


def tell_published(scene: Scene) -> Mapping[str, Any]:
    """What follows from the published pipelines, in Trace's words."""
    org_id = trace_id(
        "org", scene.tx.execute(text("SELECT org FROM rat.deployment")).scalar()
    )
    versions = [*dags.published(scene.tx, org_id)]
    here = {each.dag for each in versions}
    versions += [
        dags.Version(org_id, dag, (), version_hash(()))
        for dag in scene.tx.scalars(EMPTIED)
        if dag not in here
    ]
    datasets = dags.unique(dags.dataset_rows(versions))
    return {
        "versions": json.dumps([dags.version_row(each) for each in versions]),
        "jobs": json.dumps(
            [
                row | {"job": row["id"]}
                for each in versions
                for row in dags.job_rows(each)
            ]
        ),
        "datasets": json.dumps([row | {"dataset": row["id"]} for row in datasets]),
        "pins": json.dumps([row for each in versions for row in dags.pin_rows(each)]),
    }


EMPTIED = text("SELECT DISTINCT dag_name FROM trace.dag_current_versions")


def find_other_versions(scene: Scene) -> Mapping[str, Any]:
    """The versions of DAGs whose id is not that of their pipelines."""
    rows = scene.tx.execute(
        text("SELECT id, org_id, dag_name, yaml_hash FROM trace.dag_versions"),
        execution_options={"yield_per": 10_000},
    )
    found = [
        {"id": str(row.id), "dag_name": row.dag_name, "yaml_hash": row.yaml_hash}
        for row in rows
        if row.id != trace_id("dag_version", row.org_id, row.dag_name, row.yaml_hash)
    ]
    return {"other_versions": json.dumps(found)}


COMPARISONS = (
    Comparison(
        "trace.orgs",
        "the deployment is the one organisation, and has its administrator",
        Side("rat.deployment", ORG),
        Side("trace.orgs", ORGS),
        MIRROR,
    ),
    Comparison(
        "trace.dag_versions",
        "what is published of a namespace is the version that is served, the only one",
        Side("rat.pipelines", VERSIONS),
        Side("trace.dag_versions", SERVED),
        MIRROR,
        tell_published,
    ),
    never(
        "trace.dag_version_ids",
        "the id of a version is that of its DAG and of what it holds",
        speaker="trace.dag_versions",
        sql=OTHER_IDS,
        expected="the id",
        fix=SOMEBODY,
        gather=find_other_versions,
    ),
    Comparison(
        "trace.jobs",
        "every published pipeline is an active job, and no other is",
        Side("rat.pipelines", JOBS),
        Side("trace.jobs", ACTIVE_JOBS),
        MIRROR,
        tell_published,
    ),
    Comparison(
        "trace.datasets",
        "every table and landing zone of a published pipeline is a dataset",
        Side("rat.pipelines", DATASETS),
        Side("trace.datasets", KNOWN_DATASETS),
        MIRROR,
        tell_published,
    ),
    Comparison(
        "trace.dag_version_datasets",
        "what is served pins the generation of each of its datasets",
        Side("rat.pipelines", PINS),
        Side("trace.dag_version_datasets", SERVED_PINS),
        MIRROR,
        tell_published,
    ),
    Comparison(
        "trace_by_name",
        "the views by name show every row that has a name",
        Side("trace", BASES),
        Side("trace_by_name", VIEWS),
        SOMEBODY,
    ),
)
