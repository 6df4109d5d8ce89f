"""DAGs: the versions of a namespace's pipelines, the jobs in them, and the datasets they make.

A release makes one version of every namespace that it changes; the same pipelines again are the same
version. Exactly one version of a DAG is served, and it pins one generation of each of its datasets.
"""

import uuid
from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from rat_resources.metadata.base import Json, TraceBase, now, uuid_pk


class VersionState(StrEnum):
    """How far a version of a DAG came."""

    STAGED = "staged"  # its rows are being written → ready, retired
    READY = "ready"  # whole → serving, retired
    SERVING = "serving"  # the current one → retired
    RETIRED = "retired"  # → serving again, by a rollback or the same pipelines again


class DagVersion(TraceBase):
    """What the pipelines of a namespace were at some release."""

    __tablename__ = "dag_versions"
    __table_args__ = (
        UniqueConstraint("org_id", "dag_name", "yaml_hash"),
        UniqueConstraint("org_id", "dag_name", "id"),
        CheckConstraint(
            "state IN ('staged', 'ready', 'serving', 'retired')", name="state"
        ),
        Index(
            "uq_dag_versions_serving",
            "org_id",
            "dag_name",
            unique=True,
            postgresql_where=text("state = 'serving'"),
        ),
    )

    id: Mapped[uuid_pk]
    org_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("trace.orgs.id"))
    dag_name: Mapped[str]
    yaml_hash: Mapped[str]
    created_at: Mapped[now]
    state: Mapped[str] = mapped_column(server_default="staged")


class DagCurrentVersion(TraceBase):
    """The pointer: which version of a DAG is served."""

    __tablename__ = "dag_current_versions"
    __table_args__ = (
        ForeignKeyConstraint(
            ["org_id", "dag_name", "dag_version_id"],
            [
                "trace.dag_versions.org_id",
                "trace.dag_versions.dag_name",
                "trace.dag_versions.id",
            ],
        ),
        Index("ix_dag_current_versions_version", "dag_version_id"),
    )

    org_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("trace.orgs.id"), primary_key=True
    )
    dag_name: Mapped[str] = mapped_column(primary_key=True)
    dag_version_id: Mapped[uuid.UUID]
    updated_at: Mapped[now]


class Job(TraceBase):
    """A pipeline, as one version of its DAG has it."""

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("dag_version_id", "name"),
        ForeignKeyConstraint(
            ["org_id", "dag_name", "dag_version_id"],
            [
                "trace.dag_versions.org_id",
                "trace.dag_versions.dag_name",
                "trace.dag_versions.id",
            ],
        ),
        CheckConstraint("activation IN ('source', 'reactive')", name="activation"),
        CheckConstraint(
            "execution_strategy IN ('PerUpdate', 'PerPartition', 'Bulk')",
            name="execution_strategy",
        ),
        CheckConstraint(
            "(activation = 'source') = (execution_strategy IS NULL)",
            name="source_has_no_strategy",
        ),
        CheckConstraint(
            "update_strategy IN ('append', 'replace')", name="update_strategy"
        ),
        CheckConstraint(
            "update_strategy <> 'append' OR coalesce(cardinality(unique_key), 0) > 0",
            name="append_needs_a_key",
        ),
        CheckConstraint("max_attempts > 0", name="max_attempts"),
        CheckConstraint("timeout_seconds > 0", name="timeout_seconds"),
        CheckConstraint(
            "heartbeat_timeout_seconds > 0", name="heartbeat_timeout_seconds"
        ),
        Index(
            "uq_jobs_active",
            "org_id",
            "dag_name",
            "name",
            unique=True,
            postgresql_where=text("active"),
        ),
        Index(
            "ix_jobs_inputs",
            "input_datasets",
            postgresql_using="gin",
            postgresql_where=text("active"),
        ),
    )

    id: Mapped[uuid_pk]
    org_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("trace.orgs.id"))
    name: Mapped[str]
    dag_name: Mapped[str]
    dag_version_id: Mapped[uuid.UUID]
    activation: Mapped[str]
    runtime: Mapped[str]
    operator: Mapped[str]
    source: Mapped[Json | None]
    bootstrap: Mapped[Json | None]
    execution_strategy: Mapped[str | None]
    idle_timeout: Mapped[str | None]
    config: Mapped[Json] = mapped_column(server_default="{}")
    config_hash: Mapped[str]
    # uuids of datasets, as text; trace_by_name.jobs shows their names
    input_datasets: Mapped[list[str]] = mapped_column(server_default="{}")
    output_datasets: Mapped[list[str]] = mapped_column(server_default="{}")
    update_strategy: Mapped[str]
    unique_key: Mapped[list[str] | None]
    scaling: Mapped[Json | None]
    timeout_seconds: Mapped[int | None]
    heartbeat_timeout_seconds: Mapped[int | None]
    max_attempts: Mapped[int] = mapped_column(server_default="3")
    active: Mapped[bool] = mapped_column(server_default="false")
    created_at: Mapped[now]
    updated_at: Mapped[now]


class Dataset(TraceBase):
    """A table, a view: what a job writes, whatever its generation."""

    __tablename__ = "datasets"
    __table_args__ = (
        UniqueConstraint("org_id", "name"),
        UniqueConstraint(
            "org_id",
            "producer_dag_name",
            "producer_job_name",
            "producer_output_index",
            name="uq_datasets_producer",
        ),
        CheckConstraint("btrim(name) <> ''", name="name"),
        CheckConstraint("producer_output_index >= 0", name="producer_output_index"),
    )

    id: Mapped[uuid_pk]
    org_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("trace.orgs.id"))
    name: Mapped[str]  # ns.layer.name
    producer_dag_name: Mapped[str]
    producer_job_name: Mapped[str]
    producer_output_index: Mapped[int]
    storage: Mapped[Json] = mapped_column(server_default="{}")
    read_roles: Mapped[list[str]] = mapped_column(server_default="{}")
    created_at: Mapped[now]
    updated_at: Mapped[now]


class DatasetVersion(TraceBase):
    """A generation of a dataset: what one definition of it, and of all above it, makes."""

    __tablename__ = "dataset_versions"
    __table_args__ = (
        UniqueConstraint("dataset_uuid", "id"),
        # NULL ranges tell nothing apart: the same definition below another upstream is another one.
        UniqueConstraint(
            "dataset_uuid",
            "config_hash",
            "range_start",
            "range_end",
            name="uq_dataset_versions_range",
        ),
        CheckConstraint("range_start <= range_end", name="range"),
    )

    id: Mapped[uuid_pk]
    dataset_uuid: Mapped[uuid.UUID] = mapped_column(ForeignKey("trace.datasets.id"))
    created_at: Mapped[now]
    storage_location: Mapped[str]
    config_hash: Mapped[str]
    schema_hash: Mapped[str | None]
    range_start: Mapped[int | None] = mapped_column(BigInteger)
    range_end: Mapped[int | None] = mapped_column(BigInteger)


class DagVersionDataset(TraceBase):
    """A pin: which generation of a dataset a version of its DAG serves."""

    __tablename__ = "dag_version_datasets"
    __table_args__ = (
        ForeignKeyConstraint(
            ["dataset_uuid", "dataset_version"],
            ["trace.dataset_versions.dataset_uuid", "trace.dataset_versions.id"],
        ),
        Index("ix_dag_version_datasets_version", "dataset_version"),
    )

    dag_version_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("trace.dag_versions.id", ondelete="CASCADE"), primary_key=True
    )
    dataset_uuid: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("trace.datasets.id"), primary_key=True
    )
    dataset_version: Mapped[uuid.UUID]
