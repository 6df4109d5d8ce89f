"""DAGs: what is published, as Trace tells it; publishing is the cutover.

A namespace whose pipelines changed gets a version (or the one that it had when they were the same),
staged, ready, and served in the transaction that publishes: its pointer, its pins and its active
jobs move together. What a pipeline means in Trace's words is `definitions`.
"""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from rat_resources.metadata.zeros import as_json
from rat_resources.mirror import people
from rat_resources.mirror.definitions import (
    RUNTIME,
    Definition,
    generations,
    version_hash,
)
from rat_resources.mirror.ids import trace_id

Row = dict[str, Any]


@dataclass(frozen=True)
class Version:
    """One version of a DAG, with ids that follow from what it holds."""

    org_id: uuid.UUID
    dag: str
    definitions: Sequence[Definition]
    yaml_hash: str
    published_at: datetime | None = None  # None: now

    @property
    def created_at(self) -> str | None:
        """When its rows were first written, as a row says it."""
        return None if self.published_at is None else self.published_at.isoformat()

    @property
    def id(self) -> uuid.UUID:
        """The same pipelines are the same version."""
        return trace_id("dag_version", self.org_id, self.dag, self.yaml_hash)

    def dataset_id(self, name: str) -> uuid.UUID:
        """The id of a dataset, whatever its generation."""
        return dataset_id(self.org_id, name)


def dataset_id(org_id: uuid.UUID, name: str) -> uuid.UUID:
    """The id of the dataset of a name."""
    return trace_id("dataset", org_id, name)


def reflect_pipelines(tx: Session) -> None:
    """Serve what is published: nothing changes where the version that is served holds just that."""
    org_id = people.declare_org(tx)
    serve(tx, changed(tx, org_id))


def restate(tx: Session) -> None:
    """Write down again all that follows from what is published, whatever became of it meanwhile."""
    org_id = people.declare_org(tx)
    serve(tx, [*published(tx, org_id)])


def changed(tx: Session, org_id: uuid.UUID) -> list[Version]:
    """The versions that are published and not served."""
    served = {dag: found for dag, found in tx.execute(SERVED, {"org_id": org_id})}
    versions = [*published(tx, org_id)]
    emptied = served.keys() - {each.dag for each in versions}
    versions += [Version(org_id, dag, (), version_hash(())) for dag in sorted(emptied)]
    return [each for each in versions if served.get(each.dag) != each.yaml_hash]


SERVED = text("""
    SELECT current.dag_name, version.yaml_hash
    FROM trace.dag_current_versions AS current
    JOIN trace.dag_versions AS version ON version.id = current.dag_version_id
    WHERE current.org_id = :org_id
""")


def published(tx: Session, org_id: uuid.UUID) -> Iterator[Version]:
    """The version of every namespace that has pipelines."""
    found = [Definition.from_spec(spec) for spec in tx.scalars(SPECS)]
    for dag, members in groupby(found, key=lambda each: each.dag):
        definitions = tuple(members)
        yield Version(org_id, dag, definitions, version_hash(definitions))


# In the order of names; what only a page of Dagster shows is not even read.
SPECS = text("""
    SELECT newest.spec - 'excerpt'
    FROM rat.pipelines AS pipeline
    CROSS JOIN LATERAL (
        SELECT version.spec
        FROM rat.pipeline_versions AS version
        WHERE version.pipeline_id = pipeline.id
        ORDER BY version.version_number DESC
        LIMIT 1
    ) AS newest
    WHERE pipeline.deleted_at IS NULL
    ORDER BY pipeline.namespace, pipeline.layer, pipeline.name
""")


def serve(tx: Session, versions: Sequence[Version]) -> None:
    """Write versions down, and let them be the current ones, all together."""
    if not versions:
        return
    write_down(tx, versions)
    at = {"versions": [each.id for each in versions]}
    for statement in CUTOVER:
        tx.execute(statement, at)


def write_down(tx: Session, versions: Sequence[Version]) -> None:
    """Write versions down with all that they hold; which ones are served stays as it is."""
    write(tx, INSERT_VERSIONS, [version_row(each) for each in versions])
    write(tx, INSERT_DATASETS, unique(dataset_rows(versions)))
    write(tx, UPSERT_JOBS, [row for each in versions for row in job_rows(each)])
    pins = [row for each in versions for row in pin_rows(each)]
    write(tx, INSERT_GENERATIONS, unique(pins, key="dataset_version"))
    write(tx, INSERT_PINS, pins)


def unique(rows: Iterable[Row], *, key: str = "id") -> list[Row]:
    """One row a key, since a statement may not write one twice."""
    return [*{row[key]: row for row in rows}.values()]


def write(tx: Session, statement: TextClause, rows: Sequence[Row]) -> None:
    """Run a statement that takes its rows as one document."""
    if rows:
        tx.execute(statement, {"rows": as_json(rows)})


def version_row(version: Version) -> Row:
    """A row of dag_versions."""
    return {
        "id": str(version.id),
        "org_id": str(version.org_id),
        "dag_name": version.dag,
        "yaml_hash": version.yaml_hash,
        "created_at": version.created_at,
    }


def dataset_rows(versions: Iterable[Version]) -> Iterator[Row]:
    """A row for each table and landing zone that is made or read."""
    for version in versions:
        for each in version.definitions:
            for name in (each.dataset, *each.inputs):
                dag, _, job = name.partition(".")
                yield {
                    "id": str(version.dataset_id(name)),
                    "org_id": str(version.org_id),
                    "name": name,
                    "producer_dag_name": dag,
                    "producer_job_name": job,
                    "storage": {"kind": kind_of(job), "range_end": "inclusive"},
                    "created_at": version.created_at,
                }


def kind_of(job: str) -> str:
    """What a dataset is kept as."""
    return "files" if job.startswith("landing.") else "iceberg"


def job_rows(version: Version) -> Iterator[Row]:
    """A row of jobs for each pipeline."""
    for each in version.definitions:
        yield {
            "id": str(trace_id("job", version.id, each.name)),
            "org_id": str(version.org_id),
            "name": each.name,
            "dag_name": version.dag,
            "dag_version_id": str(version.id),
            "activation": each.activation,
            "runtime": RUNTIME,
            "operator": each.spec["type"],
            "source": each.source,
            "execution_strategy": each.execution_strategy,
            "config": each.config,
            "config_hash": each.config_hash,
            "input_datasets": [str(version.dataset_id(name)) for name in each.inputs],
            "output_datasets": [str(version.dataset_id(each.dataset))],
            "update_strategy": each.update_strategy,
            "unique_key": each.unique_key,
            "max_attempts": each.max_attempts,
            "created_at": version.created_at,
        }


def pin_rows(version: Version) -> Iterator[Row]:
    """Which generation of each dataset the version serves."""
    hashes = {each.dataset: each.config_hash for each in version.definitions}
    for name, generation in generations(version.definitions).items():
        dataset = version.dataset_id(name)
        yield {
            "dag_version_id": str(version.id),
            "dataset_uuid": str(dataset),
            "dataset_version": str(trace_id("dataset_version", dataset, generation)),
            "storage_location": name.replace(".", "/"),
            "config_hash": hashes[name],
            "created_at": version.created_at,
        }


INSERT_VERSIONS = text("""
    INSERT INTO trace.dag_versions (id, org_id, dag_name, yaml_hash, created_at)
    SELECT id, org_id, dag_name, yaml_hash, coalesce(created_at, now())
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS told (
        id uuid, org_id uuid, dag_name text, yaml_hash text, created_at timestamptz
    )
    ON CONFLICT DO NOTHING
""")
INSERT_DATASETS = text("""
    INSERT INTO trace.datasets (
        id, org_id, name, producer_dag_name, producer_job_name, producer_output_index, storage,
        created_at
    )
    SELECT
        id, org_id, name, producer_dag_name, producer_job_name, 0, storage,
        coalesce(created_at, now())
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS told (
        id uuid, org_id uuid, name text, producer_dag_name text, producer_job_name text,
        storage jsonb, created_at timestamptz
    )
    ON CONFLICT DO NOTHING
""")
JOB_FACTS = {
    "org_id": "uuid",
    "name": "text",
    "dag_name": "text",
    "dag_version_id": "uuid",
    "activation": "text",
    "runtime": "text",
    "operator": "text",
    "source": "jsonb",
    "execution_strategy": "text",
    "config": "jsonb",
    "config_hash": "text",
    "input_datasets": "text[]",
    "output_datasets": "text[]",
    "update_strategy": "text",
    "unique_key": "text[]",
    "max_attempts": "integer",
}
JOB_COLUMNS = ", ".join(JOB_FACTS)
UPSERT_JOBS = text(f"""
    INSERT INTO trace.jobs AS job (id, {JOB_COLUMNS}, created_at)
    SELECT id, {JOB_COLUMNS}, coalesce(created_at, now())
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS told (
        id uuid, {", ".join(f"{name} {what}" for name, what in JOB_FACTS.items())},
        created_at timestamptz
    )
    ON CONFLICT (id) DO UPDATE SET
        updated_at = now(), {", ".join(f"{name} = EXCLUDED.{name}" for name in JOB_FACTS)}
    WHERE ({", ".join(f"job.{name}" for name in JOB_FACTS)})
        IS DISTINCT FROM ({", ".join(f"EXCLUDED.{name}" for name in JOB_FACTS)})
""")
INSERT_GENERATIONS = text("""
    INSERT INTO trace.dataset_versions
        (id, dataset_uuid, storage_location, config_hash, created_at)
    SELECT dataset_version, dataset_uuid, storage_location, config_hash, coalesce(created_at, now())
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS told (
        dataset_version uuid, dataset_uuid uuid, storage_location text, config_hash text,
        created_at timestamptz
    )
    ON CONFLICT DO NOTHING
""")
INSERT_PINS = text("""
    INSERT INTO trace.dag_version_datasets AS pin (dag_version_id, dataset_uuid, dataset_version)
    SELECT dag_version_id, dataset_uuid, dataset_version
    FROM jsonb_to_recordset(CAST(:rows AS jsonb))
        AS told (dag_version_id uuid, dataset_uuid uuid, dataset_version uuid)
    ON CONFLICT (dag_version_id, dataset_uuid) DO UPDATE
    SET dataset_version = EXCLUDED.dataset_version
    WHERE pin.dataset_version <> EXCLUDED.dataset_version
""")

# One version of a DAG is served and one job of a name is active, at every moment.
CUTOVER = (
    text("""
        UPDATE trace.dag_versions SET state = 'ready'
        WHERE id = ANY(:versions) AND state = 'staged'
    """),
    text("""
        UPDATE trace.dag_versions AS old SET state = 'retired'
        FROM trace.dag_versions AS new
        WHERE new.id = ANY(:versions) AND (old.org_id, old.dag_name) = (new.org_id, new.dag_name)
            AND old.id <> new.id AND old.state = 'serving'
    """),
    text("""
        UPDATE trace.jobs AS old SET active = false, updated_at = now()
        FROM trace.dag_versions AS new
        WHERE new.id = ANY(:versions) AND (old.org_id, old.dag_name) = (new.org_id, new.dag_name)
            AND old.dag_version_id <> new.id AND old.active
    """),
    text("""
        UPDATE trace.dag_versions SET state = 'serving'
        WHERE id = ANY(:versions) AND state <> 'serving'
    """),
    text("""
        UPDATE trace.jobs SET active = true, updated_at = now()
        WHERE dag_version_id = ANY(:versions) AND NOT active
    """),
    text("""
        INSERT INTO trace.dag_current_versions AS current (org_id, dag_name, dag_version_id)
        SELECT org_id, dag_name, id FROM trace.dag_versions WHERE id = ANY(:versions)
        ON CONFLICT (org_id, dag_name) DO UPDATE
        SET dag_version_id = EXCLUDED.dag_version_id, updated_at = now()
        WHERE current.dag_version_id <> EXCLUDED.dag_version_id
    """),
)


def cancel_abandoned(tx: Session, *, reason: str) -> None:
    """Cancel the tasks that wait to make a generation that is served no more."""
    tx.execute(CANCEL_ABANDONED, {"reason": reason})


CANCEL_ABANDONED = text("""
    UPDATE trace.tasks AS task
    SET status = 'Canceled', completed_at = clock_timestamp(), next_retry_at = NULL,
        error_message = :reason
    FROM trace.jobs AS job
    JOIN trace.dag_version_datasets AS pin
        ON pin.dag_version_id = job.dag_version_id
        AND pin.dataset_uuid::text = ANY(job.output_datasets)
    WHERE job.id = task.job_id
        AND (task.status = 'Queued' OR (task.status = 'Failed' AND task.next_retry_at IS NOT NULL))
        AND NOT EXISTS (
            SELECT FROM trace.current_dataset_versions AS served
            WHERE served.dataset_uuid = pin.dataset_uuid
                AND served.dataset_version = pin.dataset_version
        )
""")
