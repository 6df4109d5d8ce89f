"""Grants: what a role needs to read RAT's tables, or to do RAT's daily work, and nothing else.

The statements are plain SQL that an administrator may read before they run (`rat grant --sql`); they
also hold for tables of later migrations, where the same role makes them.
"""

from collections.abc import Iterator, Sequence
from enum import StrEnum

from psycopg import sql
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from rat_resources.errors import MetadataError, SettingsError
from rat_resources.metadata.migrations import (
    SCHEMA,
    SCHEMAS,
    VERSION_TABLE,
    sqlstate,
)
from rat_resources.names import nearest

REPORTING = ("rat", "trace", "trace_by_name", "chm", "lakeflow")

# A webhook's address lets whoever knows it write to the channel.
HIDDEN = {
    ("chm", "alert_rules"): frozenset({"destination"}),
    ("trace", "alert_definitions"): frozenset({"channels"}),
}

UNDEFINED_OBJECT = "42704"


class Purpose(StrEnum):
    """What a role is for."""

    READ = "read"  # the reporting schemas and their dashboards
    WORK = (
        "work"  # everything that `rat run`, the daemon and the UI do, but no migration
    )


def grant(
    connection: Connection,
    role: str,
    *,
    purpose: Purpose,
    schemas: Sequence[str] = REPORTING,
) -> None:
    """Let *role* do what *purpose* needs, and of these schemas nothing else."""
    carry_out(connection, statements(connection, role, purpose, schemas), role)


def revoke(connection: Connection, role: str) -> None:
    """Take from *role* everything that `grant` gave it."""
    carry_out(connection, revocation(connection, role), role)


def carry_out(connection: Connection, said: Sequence[str], role: str) -> None:
    """Run statements about a role; MetadataError when there is none of that name."""
    try:
        for each in said:
            connection.exec_driver_sql(each.replace("%", "%%"))
    except DBAPIError as error:
        if sqlstate(error) != UNDEFINED_OBJECT:
            raise
        message = f"Postgres knows no role {role}"
        name = quoted(role)
        raise MetadataError(
            message, fix=f"let an administrator run CREATE ROLE {name} LOGIN PASSWORD …"
        ) from error


def statements(
    connection: Connection, role: str, purpose: Purpose, schemas: Sequence[str]
) -> list[str]:
    """What gives *role* the rights; earlier ones are taken back first."""
    chosen = SCHEMAS if purpose == Purpose.WORK else [*map(known_schema, schemas)]
    granted = to_work(role) if purpose == Purpose.WORK else to_read(role)
    said = [*revocation(connection, role)]
    said.append(f"GRANT CONNECT ON DATABASE {database(connection)} TO {quoted(role)}")
    said += [each.format(schema=schema) for schema in chosen for each in granted]
    if purpose == Purpose.WORK:
        table = f"{SCHEMA}.{VERSION_TABLE}"
        said.append(f"REVOKE INSERT, UPDATE, DELETE ON {table} FROM {quoted(role)}")
    else:
        said += concealed(connection, role, chosen)
    return said


def to_read(role: str) -> tuple[str, ...]:
    """What reading one schema needs."""
    name = quoted(role)
    return (
        f"GRANT USAGE ON SCHEMA {{schema}} TO {name}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {{schema}} TO {name}",
        f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {{schema}} TO {name}",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA {{schema}} GRANT SELECT ON TABLES TO {name}",
    )


def to_work(role: str) -> tuple[str, ...]:
    """What working in one schema needs."""
    name = quoted(role)
    rows = "SELECT, INSERT, UPDATE, DELETE"
    default = "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT"
    return (
        f"GRANT USAGE ON SCHEMA {{schema}} TO {name}",
        f"GRANT {rows} ON ALL TABLES IN SCHEMA {{schema}} TO {name}",
        f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {{schema}} TO {name}",
        f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {{schema}} TO {name}",
        f"{default} {rows} ON TABLES TO {name}",
        f"{default} USAGE, SELECT ON SEQUENCES TO {name}",
    )


def concealed(connection: Connection, role: str, schemas: Sequence[str]) -> list[str]:
    """What hides the columns that hold secrets: the table by its other columns."""
    said = []
    for (schema, table), hidden in HIDDEN.items():
        if schema not in schemas:
            continue
        columns = ", ".join(
            quoted(each)
            for each in columns_of(connection, schema, table)
            if each not in hidden
        )
        name = f"{schema}.{table}"
        said.append(f"REVOKE SELECT ON {name} FROM {quoted(role)}")
        said.append(f"GRANT SELECT ({columns}) ON {name} TO {quoted(role)}")
    return said


def revocation(connection: Connection, role: str) -> list[str]:
    """What takes every right from *role*, of the schemas that are there."""
    name = quoted(role)
    said = []
    for schema in present(connection):
        default = f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} REVOKE ALL ON"
        said += [
            f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {name}",
            f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA {schema} FROM {name}",
            f"REVOKE ALL ON ALL FUNCTIONS IN SCHEMA {schema} FROM {name}",
            f"{default} TABLES FROM {name}",
            f"{default} SEQUENCES FROM {name}",
            f"REVOKE ALL ON SCHEMA {schema} FROM {name}",
        ]
    said.append(f"REVOKE CONNECT ON DATABASE {database(connection)} FROM {name}")
    return said


def known_schema(name: str) -> str:
    """*name*, where it is a schema for readers; else a SettingsError with the nearest."""
    if name in REPORTING:
        return name
    guess = nearest(name, REPORTING)
    fix = f"did you mean {guess}?" if guess else f"name one of {', '.join(REPORTING)}"
    raise SettingsError(f"readers are given no schema {name}", fix=fix)


def present(connection: Connection) -> list[str]:
    """The schemas of RAT's that are there."""
    found = connection.execute(
        text("SELECT nspname FROM pg_namespace WHERE nspname = ANY(:names) ORDER BY 1"),
        {"names": list(SCHEMAS)},
    )
    return [*found.scalars()]


def columns_of(connection: Connection, schema: str, table: str) -> Iterator[str]:
    """The columns of a table, in their order."""
    found = connection.execute(
        text(
            "SELECT column_name FROM information_schema.columns"
            " WHERE table_schema = :schema AND table_name = :table ORDER BY ordinal_position"
        ),
        {"schema": schema, "table": table},
    )
    yield from found.scalars()


def database(connection: Connection) -> str:
    """The name of the database, as SQL has it."""
    return quoted(str(connection.scalar(text("SELECT current_database()"))))


def quoted(name: str) -> str:
    """A name as SQL has it."""
    return sql.Identifier(name).as_string()
