"""What the tables look like: their rows, bytes and columns at their last publication, and their docs."""

from sqlalchemy import BigInteger, ForeignKeyConstraint, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from rat_resources.metadata.base import Json, RatBase, now, uuid_pk


class TableMetadata(RatBase):
    """What people wrote about a table; survives the pipeline."""

    __tablename__ = "table_metadata"
    __table_args__ = (UniqueConstraint("namespace", "layer", "name"),)

    id: Mapped[uuid_pk]
    namespace: Mapped[str] = mapped_column(String(63))
    layer: Mapped[str] = mapped_column(String(10))
    name: Mapped[str] = mapped_column(String(255))
    description: Mapped[str] = mapped_column(server_default="")
    owner: Mapped[str | None] = mapped_column(String(255))
    column_descriptions: Mapped[Json] = mapped_column(server_default="{}")
    created_at: Mapped[now]
    updated_at: Mapped[now]


class IcebergTable(RatBase):
    """A published table, as its last publication left it."""

    __tablename__ = "iceberg_tables"

    namespace: Mapped[str] = mapped_column(primary_key=True)
    layer: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    row_count: Mapped[int | None] = mapped_column(BigInteger)
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    snapshot_id: Mapped[int | None] = mapped_column(BigInteger)
    metadata_location: Mapped[str]
    updated_at: Mapped[now]


class IcebergColumn(RatBase):
    """A column of a published table."""

    __tablename__ = "iceberg_columns"
    __table_args__ = (
        ForeignKeyConstraint(
            ["namespace", "layer", "table_name"],
            [
                "rat.iceberg_tables.namespace",
                "rat.iceberg_tables.layer",
                "rat.iceberg_tables.name",
            ],
            ondelete="CASCADE",
        ),
    )

    namespace: Mapped[str] = mapped_column(primary_key=True)
    layer: Mapped[str] = mapped_column(primary_key=True)
    table_name: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    ordinal: Mapped[int]
    type: Mapped[str]
    nullable: Mapped[bool]
