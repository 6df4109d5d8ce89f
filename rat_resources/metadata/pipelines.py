"""Pipelines as Postgres knows them: namespaces, pipelines, their versions, and releases.

A release is one publish: every pipeline whose newest version has a release number up to N, and
that was not retired by then, is what release N holds. One row says which release is current.
Reading and writing them is `rat_resources.releases`.
"""

import uuid
from datetime import datetime

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from rat_resources.metadata.base import Json, RatBase, now, uuid_pk


class Namespace(RatBase):
    """A project: pipelines and landing zones that belong together."""

    __tablename__ = "namespaces"

    id: Mapped[uuid_pk]
    name: Mapped[str] = mapped_column(String(63), unique=True)
    description: Mapped[str] = mapped_column(server_default="")
    created_by: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[now]


class Pipeline(RatBase):
    """A folder of code that writes one table. Deleting is `deleted_at`; the name is then free again."""

    __tablename__ = "pipelines"
    __table_args__ = (
        CheckConstraint("layer IN ('bronze', 'silver', 'gold')", name="layer"),
        CheckConstraint("type IN ('sql', 'python')", name="type"),
        CheckConstraint("max_versions > 0", name="max_versions"),
        Index(
            "uq_pipelines_live_name",
            "namespace",
            "layer",
            "name",
            unique=True,
            postgresql_where=text("deleted_at IS NULL"),
        ),
    )

    id: Mapped[uuid_pk]
    namespace: Mapped[str] = mapped_column(
        String(63),
        ForeignKey("rat.namespaces.name", onupdate="CASCADE", ondelete="CASCADE"),
    )
    layer: Mapped[str] = mapped_column(String(10))
    name: Mapped[str] = mapped_column(String(63))
    type: Mapped[str] = mapped_column(String(10), server_default="sql")
    s3_path: Mapped[str] = mapped_column(String(1024), server_default="")
    description: Mapped[str] = mapped_column(server_default="")
    owner: Mapped[str | None] = mapped_column(String(255))
    published_versions: Mapped[Json] = mapped_column(
        server_default="{}"
    )  # file → content hash
    draft_dirty: Mapped[bool] = mapped_column(server_default="false")
    max_versions: Mapped[int] = mapped_column(server_default="50")
    published_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    created_at: Mapped[now]
    updated_at: Mapped[now]


class PipelineVersion(RatBase):
    """One immutable snapshot of a pipeline's files, and what they mean (`spec`)."""

    __tablename__ = "pipeline_versions"
    __table_args__ = (
        UniqueConstraint("pipeline_id", "version_number"),
        Index("ix_pipeline_versions_release", "pipeline_id", "release_number"),
    )

    id: Mapped[uuid_pk]
    pipeline_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("rat.pipelines.id", ondelete="CASCADE")
    )
    version_number: Mapped[int]
    message: Mapped[str] = mapped_column(server_default="")
    published_versions: Mapped[Json] = mapped_column(server_default="{}")
    # The same names → the versions of S3 that their objects are, where the bucket keeps versions.
    s3_version_ids: Mapped[Json] = mapped_column(server_default="{}")
    created_at: Mapped[now]
    release_number: Mapped[int] = mapped_column(ForeignKey("rat.releases.number"))
    # Stored parsed, so that a thousand pipelines load by one query and no file is read.
    spec: Mapped[Json]
    code_version: Mapped[str]  # changes with whatever changes the output
    # The release that rolled it back: no run of it publishes any more.
    abandoned_by: Mapped[int | None] = mapped_column(ForeignKey("rat.releases.number"))


class Release(RatBase):
    """One publish: what became current together."""

    __tablename__ = "releases"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    message: Mapped[str] = mapped_column(server_default="")
    published_by: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[now]


class RetiredPipeline(RatBase):
    """A release that took a pipeline out."""

    __tablename__ = "retired_pipelines"

    pipeline_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("rat.pipelines.id", ondelete="CASCADE"), primary_key=True
    )
    release_number: Mapped[int] = mapped_column(
        ForeignKey("rat.releases.number"), primary_key=True
    )


class CurrentRelease(RatBase):
    """The pointer: one row, locked by whoever publishes."""

    __tablename__ = "current_release"
    __table_args__ = (CheckConstraint("id = 1", name="singleton"),)

    id: Mapped[int] = mapped_column(
        primary_key=True, server_default="1", autoincrement=False
    )
    release_number: Mapped[int | None] = mapped_column(
        ForeignKey("rat.releases.number")
    )
    updated_at: Mapped[now]
