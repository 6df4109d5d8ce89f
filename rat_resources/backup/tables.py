"""Tables: all of ours and Dagster's, copied out and in as text, which any version of Postgres reads.

By COPY and not by pg_dump: that need not be on the machine, refuses a server newer than itself, and
wants more than the rights of the role that RAT works as. What a table is, the migrations know.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

import psycopg
from sqlalchemy import Connection, text

from rat_resources.metadata import DAGSTER_SCHEMA
from rat_resources.metadata.base import SCHEMAS

ALL = (*SCHEMAS, DAGSTER_SCHEMA)
# What says how the tables look, and who lived when they were copied.
LEFT_OUT = (
    "rat.schema_migrations",
    f"{DAGSTER_SCHEMA}.alembic_version",
    f"{DAGSTER_SCHEMA}.daemon_heartbeats",
    # What RAT a warehouse belongs to, and which of its files are used: a RAT that is made from a
    # backup elsewhere is another one, and looks for itself.
    "rat.warehouses",
    "rat.lake_folders",
    "rat.unused_files",
    "rat.backups",
)
# However a server is set up, a value is written the same.
PLAINLY = """
    SELECT
        set_config('client_encoding', 'UTF8', true),
        set_config('datestyle', 'ISO, MDY', true),
        set_config('intervalstyle', 'postgres', true),
        set_config('timezone', 'UTC', true),
        set_config('extra_float_digits', '1', true),
        set_config('statement_timeout', '0', true),
        set_config('idle_in_transaction_session_timeout', '0', true)
"""


@dataclass(frozen=True)
class Table:
    """A table, and its columns that are written rather than computed."""

    schema: str
    name: str
    columns: tuple[str, ...]

    @property
    def quoted(self) -> str:
        """Its name in SQL."""
        return f'"{self.schema}"."{self.name}"'

    @property
    def listed(self) -> str:
        """Its columns in SQL."""
        return ", ".join(f'"{column}"' for column in self.columns)


LIST = text("""
    SELECT
        namespace.nspname AS schema,
        class.relname AS name,
        array_agg(attribute.attname ORDER BY attribute.attnum) AS columns
    FROM pg_catalog.pg_class AS class
    JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = class.relnamespace
    JOIN pg_catalog.pg_attribute AS attribute ON attribute.attrelid = class.oid
    WHERE namespace.nspname = ANY(:schemas)
        AND class.relkind = 'r'
        AND concat_ws('.', namespace.nspname, class.relname) <> ALL(:left_out)
        AND attribute.attnum > 0
        AND NOT attribute.attisdropped
        AND attribute.attgenerated = ''
    GROUP BY namespace.nspname, class.relname
    ORDER BY namespace.nspname, class.relname
""")


def list_all(connection: Connection) -> list[Table]:
    """Every table, by name."""
    found = connection.execute(LIST, {"schemas": [*ALL], "left_out": [*LEFT_OUT]})
    return [Table(row.schema, row.name, tuple(row.columns)) for row in found]


def in_order(connection: Connection, tables: Sequence[Table]) -> list[Table]:
    """The tables, each behind those that its rows name."""
    known = {(table.schema, table.name): table for table in tables}
    sorter = TopologicalSorter({key: set() for key in known})
    for row in connection.execute(FOREIGN_KEYS, {"schemas": [*ALL]}):
        here, there = (row.schema, row.name), (row.other_schema, row.other_name)
        if here != there and {here, there} <= known.keys():
            sorter.add(here, there)
    return [known[key] for key in sorter.static_order()]


FOREIGN_KEYS = text("""
    SELECT
        here_in.nspname AS schema,
        here.relname AS name,
        there_in.nspname AS other_schema,
        there.relname AS other_name
    FROM pg_catalog.pg_constraint AS named
    JOIN pg_catalog.pg_class AS here ON here.oid = named.conrelid
    JOIN pg_catalog.pg_namespace AS here_in ON here_in.oid = here.relnamespace
    JOIN pg_catalog.pg_class AS there ON there.oid = named.confrelid
    JOIN pg_catalog.pg_namespace AS there_in ON there_in.oid = there.relnamespace
    WHERE named.contype = 'f' AND here_in.nspname = ANY(:schemas)
""")


def copy_out(connection: Connection, table: Table) -> Iterator[bytes]:
    """The rows of a table, as the transaction sees them."""
    statement = f"COPY {table.quoted} ({table.listed}) TO STDOUT"
    with driver(connection).cursor() as cursor, cursor.copy(statement) as rows:
        for chunk in rows:
            yield bytes(chunk)


def copy_in(connection: Connection, table: Table, chunks: Iterable[bytes]) -> int:
    """Write rows as `copy_out` read them; how many those were."""
    statement = f"COPY {table.quoted} ({table.listed}) FROM STDIN"
    with driver(connection).cursor() as cursor:
        with cursor.copy(statement) as rows:
            for chunk in chunks:
                rows.write(chunk)
        return cursor.rowcount


def driver(connection: Connection) -> psycopg.Connection:
    """The connection as psycopg has it: SQLAlchemy knows no COPY."""
    known = connection.connection.driver_connection
    if not isinstance(known, psycopg.Connection):
        message = f"{known!r} is no connection of psycopg"
        raise TypeError(message)
    return known


def empty(connection: Connection, tables: Iterable[Table]) -> None:
    """Remove every row of these tables."""
    names = ", ".join(table.quoted for table in tables)
    connection.execute(text(f"TRUNCATE {names}"))


def set_triggers(
    connection: Connection, tables: Iterable[Table], *, enabled: bool
) -> None:
    """Let the triggers of these tables go off, or not: what they once did is copied too."""
    word = "ENABLE" if enabled else "DISABLE"
    for table in tables:
        connection.execute(text(f"ALTER TABLE {table.quoted} {word} TRIGGER USER"))


# Sequences.

SEQUENCES = text("""
    SELECT concat_ws('.', schemaname, sequencename) AS name, last_value
    FROM pg_catalog.pg_sequences
    WHERE schemaname = ANY(:schemas) AND last_value IS NOT NULL
    ORDER BY name
""")


def read_sequences(connection: Connection) -> Mapping[str, int]:
    """The last number that each sequence gave out, if it ever gave one."""
    found = connection.execute(SEQUENCES, {"schemas": [*ALL]})
    return {row.name: row.last_value for row in found}


def set_sequences(connection: Connection, last: Mapping[str, int]) -> None:
    """Let each sequence go on behind what it has given out."""
    for name, value in last.items():
        connection.execute(
            text("SELECT setval(CAST(:name AS regclass), :value)"),
            {"name": name, "value": value},
        )
