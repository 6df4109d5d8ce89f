"""Where the columns of the published tables and views take their values from.

The shape is that of `trace.column_lineage`: a dataset is a dotted name, of a table, a view or a
landing zone (`namespace.landing.zone`). Reading and writing them is `rat_resources.lineage`.
"""

import uuid

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from rat_resources.metadata.base import Json, RatBase, now


class TracedTable(RatBase):
    """A published table or view whose columns were traced, and what that was concluded from."""

    __tablename__ = "traced_tables"

    dataset: Mapped[str] = mapped_column(primary_key=True)
    pipeline_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("rat.pipelines.id", ondelete="CASCADE")
    )
    columns: Mapped[list[str]]
    untold: Mapped[list[str]]  # the columns of which the sources are not known
    query_hash: Mapped[str]  # of all that decides the sources; while it stays, they do
    probes: Mapped[Json] = mapped_column(server_default="{}")  # call → columns
    # What conditions, joins and groups go by: [dataset, column]; NULL where it is not known
    deciding: Mapped[Json | None]
    updated_at: Mapped[now]


class ColumnLineage(RatBase):
    """A column of one dataset that takes values from a column of another."""

    __tablename__ = "column_lineage"
    __table_args__ = (
        Index("ix_column_lineage_input", "input_dataset", "input_column"),
    )

    output_dataset: Mapped[str] = mapped_column(
        ForeignKey("rat.traced_tables.dataset", ondelete="CASCADE"), primary_key=True
    )
    output_column: Mapped[str] = mapped_column(primary_key=True)
    input_dataset: Mapped[str] = mapped_column(primary_key=True)
    input_column: Mapped[str] = mapped_column(primary_key=True)
    pipeline_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("rat.pipelines.id", ondelete="CASCADE")
    )
