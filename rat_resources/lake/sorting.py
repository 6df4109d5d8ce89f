"""Sorting: in what order rows lie in each new file, so that readers skip what they do not want.

`strategies.WriteConfig` asks for it, the table's metadata keeps it, `writing` follows it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.sorting import (
    UNSORTED_SORT_ORDER,
    NullOrder,
    SortDirection,
    SortOrder,
)
from pyiceberg.table.sorting import SortField as IcebergSortField
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import NestedField, PrimitiveType

from rat_resources.errors import SchemaChangeError
from rat_resources.lake.sql import quote
from rat_resources.lake.types import type_words
from rat_resources.names import nearest


@dataclass(frozen=True)
class SortField:
    """One column of `sort_by`; NULL comes first, or last where it descends, as Iceberg has it."""

    column: str
    descending: bool = False

    @property
    def sql(self) -> str:
        """How SQL says it."""
        direction = "DESC NULLS LAST" if self.descending else "ASC NULLS FIRST"
        return f"{quote(self.column)} {direction}"


def key_order(keys: Sequence[str], *, schema: Schema) -> tuple[SortField, ...]:
    """The order in which a merge finds keys fastest: by themselves, as far as they can be sorted by."""
    known = {column.name.casefold(): column for column in schema.fields}
    found = (known.get(key.casefold()) for key in keys)
    sortable = takewhile(
        lambda column: column and isinstance(column.field_type, PrimitiveType), found
    )
    return tuple(SortField(column.name) for column in sortable if column)


def sort_order(
    fields: Sequence[SortField],
    *,
    schema: Schema,
    metadata: TableMetadata | None = None,
) -> SortOrder:
    """The order of a table of *schema* by *fields*, under an id that *metadata* has not spent."""
    if not fields:
        return UNSORTED_SORT_ORDER
    sources = [_iceberg_field(field, schema=schema) for field in fields]
    orders = [] if metadata is None else metadata.sort_orders
    for order in orders:
        if order.fields == sources:
            return order
    return SortOrder(
        *sources, order_id=1 + max((each.order_id for each in orders), default=0)
    )


def _iceberg_field(field: SortField, *, schema: Schema) -> IcebergSortField:
    return IcebergSortField(
        _source(field, schema=schema).field_id,
        IdentityTransform(),
        SortDirection.DESC if field.descending else SortDirection.ASC,
        NullOrder.NULLS_LAST if field.descending else NullOrder.NULLS_FIRST,
    )


def _source(field: SortField, *, schema: Schema) -> NestedField:
    known = {column.name.casefold(): column for column in schema.fields}
    column = known.get(field.column.casefold())
    if column is None:
        guess = nearest(field.column, [each.name for each in schema.fields])
        raise SchemaChangeError(
            f"sort_by names {field.column!r}, which is no column of the result",
            fix=f"did you mean {guess!r}?" if guess else "name a column of the result",
        )
    if not isinstance(column.field_type, PrimitiveType):
        raise SchemaChangeError(
            f"sort_by cannot sort by {column.name!r}, "
            f"which is {type_words(column.field_type)}",
            fix="choose another column",
        )
    return column


def sorted_by(metadata: TableMetadata) -> tuple[SortField, ...]:
    """The columns by which new files of the table are sorted, as far as SQL can sort by them."""
    order = metadata.sort_order_by_id(metadata.default_sort_order_id)
    schema = metadata.schema()
    names = {column.field_id: column.name for column in schema.fields}
    found: list[SortField] = []
    for field in order.fields if order is not None else ():
        known = field.source_id in names and field.null_order == (
            NullOrder.NULLS_LAST
            if field.direction == SortDirection.DESC
            else NullOrder.NULLS_FIRST
        )
        # Another engine may sort by a transform; what follows such a field no longer helps.
        if not known or not isinstance(field.transform, IdentityTransform):
            break
        found.append(
            SortField(names[field.source_id], field.direction == SortDirection.DESC)
        )
    return tuple(found)


def is_told(metadata: TableMetadata, fields: Sequence[SortField]) -> bool:
    """Whether rows sorted by *fields* are in the order that the table's metadata tells of."""
    order = metadata.sort_order_by_id(metadata.default_sort_order_id)
    return (
        order is not None
        and len(order.fields) == len(fields) > 0
        and tuple(fields) == sorted_by(metadata)
    )
