"""Partition values: what tells the files of one partition from those of another while they are written.

DuckDB names a folder for each partition; its name spells the values, so that nobody has to look for
them first or afterwards. Which rows belong to which partition is `partitioning`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pyarrow as pa
from duckdb import DuckDBPyConnection
from duckdb.func import PythonUDFType
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.typedef import Record
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    StringType,
    UUIDType,
)

# Bytes of the values that a folder's name spells, two characters each; a name may have 255.
LONGEST = 100
NUMBERED = "n"  # no digit of a hexadecimal number


@dataclass
class PartitionKeys:
    """The keys of one write's partitions."""

    types: Sequence[IcebergType]  # of the values
    numbered: dict[str, int] = field(default_factory=dict)  # the values of long ones

    @classmethod
    def of(cls, spec: PartitionSpec, *, schema: Schema) -> "PartitionKeys":
        """Those of a table that is divided by *spec*."""
        return cls(
            [
                each.transform.result_type(schema.find_type(each.source_id))
                for each in spec.fields
            ]
        )

    def sql(self, connection: DuckDBPyConnection, columns: Sequence[str]) -> str:
        """SQL for the key of a row, whose partition has its values in these columns."""
        texts = (
            f"hex({column})" if isinstance(kind, _BYTES) else f"{column}::VARCHAR"
            for column, kind in zip(columns, self.types, strict=True)
        )
        values = f"to_json([{', '.join(texts)}])::VARCHAR"
        if not any(isinstance(kind, _OF_ANY_LENGTH) for kind in self.types):
            return f"hex({values})"
        number = f"rat_number_{uuid4().hex}"
        connection.create_function(
            number, self._numbers, ["VARCHAR"], "VARCHAR", type=PythonUDFType.ARROW
        )
        return (
            f"CASE WHEN strlen({values}) <= {LONGEST} "
            f"THEN hex({values}) ELSE {number}({values}) END"
        )

    def _numbers(self, texts: pa.Array) -> pa.Array:
        known = self.numbered
        return pa.array(
            [
                f"{NUMBERED}{known.setdefault(text, len(known))}"
                for text in texts.to_pylist()
            ]
        )

    def record(self, key: str | None) -> Record:
        """The values of the partition with this key, as Iceberg keeps them."""
        key = key or ""
        if key.startswith(NUMBERED):
            text = list(self.numbered)[int(key.removeprefix(NUMBERED))]
        else:
            text = bytes.fromhex(key).decode()
        values: list[str | None] = json.loads(text)
        return Record(
            *(
                None if value is None else _value(value, kind)
                for value, kind in zip(values, self.types, strict=True)
            )
        )


_BYTES = (BinaryType, FixedType)
_OF_ANY_LENGTH = (StringType, *_BYTES)


def _value(text: str, kind: IcebergType) -> Any:  # noqa: ANN401, PLR0911 - a line a type
    match kind:
        case StringType():
            return text
        case BooleanType():
            return text == "true"
        case DecimalType():
            return Decimal(text)
        case FloatType() | DoubleType():
            return float(text)
        case UUIDType():
            return UUID(text).bytes
        case BinaryType() | FixedType():
            return bytes.fromhex(text)
    # Dates and times are numbers here, as Iceberg keeps them.
    return int(text)
