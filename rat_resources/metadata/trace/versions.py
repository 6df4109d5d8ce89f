"""Versions of data: partitions and when they were made, how far readers came, what is no longer true."""

import uuid
from datetime import datetime

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Uuid,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from rat_resources.metadata.base import Json, TraceBase, now, uuid_pk

GENERATION = ["dataset_uuid", "dataset_version"]
ITS_ROW = ["trace.dataset_versions.dataset_uuid", "trace.dataset_versions.id"]


class PartitionVersion(TraceBase):
    """When a partition of a generation was last made, from what and how large."""

    __tablename__ = "partition_versions"
    __table_args__ = (
        ForeignKeyConstraint(GENERATION, ITS_ROW),
        CheckConstraint("row_count >= 0", name="row_count"),
        CheckConstraint("bytes >= 0", name="bytes"),
        Index("ix_partition_versions_time", "materialized_at"),
        Index(
            "ix_partition_versions_newest",
            "dataset_uuid",
            text("materialized_at DESC"),
            postgresql_include=["dataset_version"],
        ),
    )

    dataset_uuid: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("trace.datasets.id"), primary_key=True
    )
    dataset_version: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    partition_key: Mapped[str] = mapped_column(primary_key=True)
    materialized_at: Mapped[now]
    config_hash: Mapped[str | None]
    schema_hash: Mapped[str | None]
    location: Mapped[str | None]
    row_count: Mapped[int | None] = mapped_column(BigInteger)
    bytes: Mapped[int | None] = mapped_column(BigInteger)


class DatasetCursor(TraceBase):
    """How far a job has read a dataset; never backwards, as far as the values can be compared."""

    __tablename__ = "dataset_cursors"
    __table_args__ = (
        ForeignKeyConstraint(GENERATION, ITS_ROW),
        Index("ix_dataset_cursors_job", "job_id"),
    )

    dataset_uuid: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("trace.datasets.id"), primary_key=True
    )
    dataset_version: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    job_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("trace.jobs.id"), primary_key=True
    )
    cursor_column: Mapped[str]
    cursor_value: Mapped[str]
    updated_at: Mapped[now]


class DataInvalidation(TraceBase):
    """That a part of a generation is no longer what its readers took it for.

    Ours beside the documented columns: `routed_release`, the release whose pipelines were told of it,
    and `problem`, why nobody can be told.
    """

    __tablename__ = "data_invalidations"
    __table_args__ = (
        ForeignKeyConstraint(GENERATION, ITS_ROW),
        CheckConstraint("scope IN ('partition', 'row_range')", name="scope"),
        CheckConstraint(
            "(scope = 'partition' AND partition_key IS NOT NULL AND row_filter IS NULL)"
            " OR (scope = 'row_range' AND row_filter IS NOT NULL AND partition_key IS NULL)",
            name="what",
        ),
        CheckConstraint("jsonb_typeof(row_filter) = 'object'", name="row_filter"),
        CheckConstraint(
            "reason IN ('reorg', 'correction', 'manual', 'schema_change')",
            name="reason",
        ),
        Index(
            "ix_data_invalidations_open",
            "dataset_uuid",
            "dataset_version",
            postgresql_where=text("processed_at IS NULL"),
        ),
        Index(
            "ix_data_invalidations_routed",
            "routed_release",
            postgresql_where=text("processed_at IS NULL"),
        ),
    )

    id: Mapped[uuid_pk]
    dataset_uuid: Mapped[uuid.UUID] = mapped_column(ForeignKey("trace.datasets.id"))
    dataset_version: Mapped[uuid.UUID]
    scope: Mapped[str]
    partition_key: Mapped[str | None]
    row_filter: Mapped[Json | None]
    reason: Mapped[str]
    source_event: Mapped[Json | None]
    created_at: Mapped[now]
    processed_by: Mapped[list[uuid.UUID]] = mapped_column(
        ARRAY(Uuid()), server_default="{}"
    )
    processed_at: Mapped[datetime | None]
    routed_release: Mapped[int | None]
    problem: Mapped[str | None]


class TracedColumn(TraceBase):
    """A column of one dataset that takes values from a column of another."""

    __tablename__ = "column_lineage"
    __table_args__ = (
        Index("ix_column_lineage_input", "input_dataset_uuid", "input_column"),
    )

    output_dataset_uuid: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("trace.datasets.id"), primary_key=True
    )
    output_column: Mapped[str] = mapped_column(primary_key=True)
    input_dataset_uuid: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("trace.datasets.id"), primary_key=True
    )
    input_column: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("trace.jobs.id", ondelete="SET NULL")
    )
