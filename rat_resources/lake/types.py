"""Types: what a column that DuckDB returns becomes in an Iceberg table, and back.

    DuckDB                                   Iceberg           conversion
    BOOLEAN                                  boolean
    TINYINT, SMALLINT, UTINYINT, USMALLINT   int               next larger
    INTEGER                                  int
    UINTEGER, BIGINT                         long              next larger
    UBIGINT                                  decimal(20,0)     no larger integer
    HUGEINT, UHUGEINT                        decimal(38,0)     fails beyond 38 digits
    FLOAT, DOUBLE                            float, double
    DECIMAL(p,s)                             decimal(p,s)
    DATE                                     date
    TIME, TIME_NS                            time              to microseconds
    TIMESTAMP, TIMESTAMP_S, _MS, _NS         timestamp         to microseconds
    TIMESTAMP WITH TIME ZONE                 timestamptz       kept as UTC
    VARCHAR, ENUM, JSON                      string            text
    UUID                                     uuid
    BLOB                                     binary
    STRUCT, LIST, ARRAY, MAP                 struct, list, map element by element
    NULL (a column of nothing but NULL)      int               the table's type, if it has one
    INTERVAL, BIT, TIMETZ, UNION and others  refused with advice

Which change of a column's type a table can follow is `evolution`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from duckdb.sqltypes import DuckDBPyType
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from rat_resources.errors import SchemaChangeError
from rat_resources.lake.sql import quote


@dataclass(frozen=True)
class Column:
    """A column of a query's result."""

    name: str
    type: IcebergType


_SIMPLE: dict[str, IcebergType] = {
    "boolean": BooleanType(),
    "tinyint": IntegerType(),
    "smallint": IntegerType(),
    "integer": IntegerType(),
    "utinyint": IntegerType(),
    "usmallint": IntegerType(),
    "bigint": LongType(),
    "uinteger": LongType(),
    "ubigint": DecimalType(20, 0),
    "hugeint": DecimalType(38, 0),
    "uhugeint": DecimalType(38, 0),
    "float": FloatType(),
    "double": DoubleType(),
    "date": DateType(),
    "time": TimeType(),
    "time_ns": TimeType(),
    "timestamp": TimestampType(),
    "timestamp_s": TimestampType(),
    "timestamp_ms": TimestampType(),
    "timestamp_ns": TimestampType(),
    "timestamp with time zone": TimestamptzType(),
    "varchar": StringType(),
    "enum": StringType(),
    "uuid": UUIDType(),
    "blob": BinaryType(),
}

_ADVICE = {
    "interval": "cast it to BIGINT seconds (epoch(x)::BIGINT) or to VARCHAR",
    "bit": "cast it to VARCHAR or to BLOB",
    "time with time zone": "cast it to TIME or to VARCHAR",
    "union": "cast it to VARCHAR or to JSON",
}


def iceberg_type(duckdb_type: DuckDBPyType, *, column: str) -> IcebergType:
    """The Iceberg type that holds every value of *duckdb_type*; nested ids are provisional."""
    return _convert(duckdb_type, column=column, new_id=count(1).__next__)


def _convert(
    duckdb_type: DuckDBPyType, *, column: str, new_id: Callable[[], int]
) -> IcebergType:
    kind = duckdb_type.id
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if kind not in ("decimal", "list", "array", "struct", "map"):
        raise SchemaChangeError(
            f"column {column!r} has the type {duckdb_type}, which a table cannot hold",
            fix=_ADVICE.get(kind, "cast it to VARCHAR"),
        )
    children: dict[str, Any] = dict(duckdb_type.children)

    def child(name: str) -> IcebergType:
        return _convert(children[name], column=f"{column}.{name}", new_id=new_id)

    match kind:
        case "decimal":
            return DecimalType(*map(int, (children["precision"], children["scale"])))
        case "map":
            return MapType(
                new_id(), child("key"), new_id(), child("value"), value_required=False
            )
        case "struct":
            return StructType(
                *(NestedField(new_id(), name, child(name)) for name in children)
            )
        case _:
            return ListType(new_id(), child("child"), element_required=False)


_NAMES: dict[type[IcebergType], str] = {
    BooleanType: "BOOLEAN",
    IntegerType: "INTEGER",
    LongType: "BIGINT",
    FloatType: "FLOAT",
    DoubleType: "DOUBLE",
    DateType: "DATE",
    TimeType: "TIME",
    TimestampType: "TIMESTAMP",
    TimestamptzType: "TIMESTAMP WITH TIME ZONE",
    StringType: "VARCHAR",
    UUIDType: "UUID",
    BinaryType: "BLOB",
    FixedType: "BLOB",
}


def sql_type(iceberg: IcebergType) -> str:
    """How DuckDB writes the type that holds every value of *iceberg*."""
    match iceberg:
        case DecimalType():
            return f"DECIMAL({iceberg.precision},{iceberg.scale})"
        case StructType():
            fields = (
                f"{quote(f.name)} {sql_type(f.field_type)}" for f in iceberg.fields
            )
            return f"STRUCT({', '.join(fields)})"
        case ListType():
            return f"{sql_type(iceberg.element_type)}[]"
        case MapType():
            return f"MAP({sql_type(iceberg.key_type)}, {sql_type(iceberg.value_type)})"
    if type(iceberg) in _NAMES:
        return _NAMES[type(iceberg)]
    raise SchemaChangeError(
        f"a column of the Iceberg type {iceberg} cannot be read or written",
        fix="change its type with the engine that made it",
    )


def type_words(iceberg: IcebergType) -> str:
    """The type as people read it: field ids left out."""
    return re.sub(r"\s+", " ", sql_type(iceberg).replace('"', "").lower())
