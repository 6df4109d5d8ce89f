"""What the collector of the lake's files knows: warehouses, folders, unused files, backups to spare."""

import uuid
from datetime import datetime

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from rat_resources.metadata.base import Json, RatBase, now, uuid_pk


class Warehouse(RatBase):
    """A warehouse that this RAT has used."""

    __tablename__ = "warehouses"

    location: Mapped[str] = mapped_column(primary_key=True)
    identity: Mapped[uuid.UUID]  # what its marker calls this RAT
    marked_at: Mapped[datetime | None]  # None: it was not empty; the collector decides
    # Of commits before it files may be gone; it never goes back.
    history_since: Mapped[datetime | None]


class LakeFolder(RatBase):
    """A folder that has held the files of a table, whether or not there still is one."""

    __tablename__ = "lake_folders"

    location: Mapped[str] = mapped_column(primary_key=True)
    table: Mapped[str]  # its name, as it was first seen
    seen_at: Mapped[now]


class UnusedFile(RatBase):
    """A file of the lake that nothing needs; it goes when that was so for long enough."""

    __tablename__ = "unused_files"
    __table_args__ = (Index("ix_unused_files_folder", "folder", "seen_at"),)

    location: Mapped[str] = mapped_column(primary_key=True)
    folder: Mapped[str] = mapped_column(
        ForeignKey("rat.lake_folders.location", ondelete="CASCADE")
    )
    noted_at: Mapped[datetime]  # when a round first found it unused
    seen_at: Mapped[datetime]  # when the last round did


class Backup(RatBase):
    """A backup that was taken, with the tables whose files it needs."""

    __tablename__ = "backups"

    id: Mapped[uuid_pk]
    made_at: Mapped[datetime]
    path: Mapped[str]
    tables: Mapped[Json]  # [{table, metadata_location, snapshot_id}]
