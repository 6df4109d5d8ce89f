"""Postgres: whether it can be reached and used, and is as this checkout needs it."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from psycopg import Connection as Driver
from sqlalchemy import URL, Connection, text

from rat_resources.doctor.findings import (
    Finding,
    Findings,
    Level,
    compare_clocks,
    fine,
    problem,
    warning,
)
from rat_resources.metadata import Metadata, find_server, migrations
from rat_resources.settings import Settings

PART = "Postgres"
SCHEMAS = f"{PART} schemas"
TIMEOUT = 5  # seconds
NEEDED = 20  # connections: a daemon, a web server, a code server, a run

RIGHTS = """
    SELECT
        count(*) AS tables,
        min(name) FILTER (WHERE NOT may_work) AS refused,
        bool_and(may_work) AS may_work,
        bool_and(pg_has_role(owner, 'USAGE')) AS may_migrate
    FROM (
        SELECT
            nspname || '.' || relname AS name,
            relowner AS owner,
            has_schema_privilege(pg_namespace.oid, 'USAGE')
            AND has_table_privilege(pg_class.oid, 'SELECT')
            AND has_table_privilege(pg_class.oid, 'INSERT')
            AND has_table_privilege(pg_class.oid, 'UPDATE')
            AND has_table_privilege(pg_class.oid, 'DELETE') AS may_work
        FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE nspname = ANY(:schemas) AND relkind IN ('r', 'p')
            AND relname <> 'schema_migrations'
    ) AS tables
"""
CONNECTIONS = """
    SELECT
        (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used,
        current_setting('max_connections')::int
        - current_setting('superuser_reserved_connections')::int AS allowed,
        (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS of_role,
        (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS of_database
"""


def postgres(settings: Settings) -> Findings:
    """What is to be said of the Postgres of *settings*."""
    url = find_server(settings)
    if "connect_timeout" not in url.query:
        url = url.update_query_dict({"connect_timeout": str(TIMEOUT)})
    with Metadata.connect(url) as metadata:
        began = time.perf_counter()
        with metadata.engine.connect() as connection:
            took = time.perf_counter() - began
            connection.execute(text(f"SET LOCAL statement_timeout = '{TIMEOUT}s'"))
            yield reached(
                connection, url, own=settings.postgres_url is not None, took=took
            )
            yield encryption(connection, url)
            yield clock(connection)
            yield pooler(connection)
            yield free_connections(connection)
            yield rights(connection)
        yield schemas(metadata, own=settings.postgres_url is not None)


def is_usable(found: Sequence[Finding]) -> bool:
    """Whether what stands in Postgres can be looked at."""
    return any(each.part == SCHEMAS and each.level == Level.OK for each in found)


def reached(connection: Connection, url: URL, *, own: bool, took: float) -> Finding:
    """Where it is, and which version."""
    version = connection.scalar(text("SHOW server_version"))
    where = url.set(query={}).render_as_string() if own else "the embedded one"
    what = f"{where}, version {version}, reached in {1000 * took:.0f} ms"
    if connection.scalar(text("SELECT pg_is_in_recovery()")):
        fix = "name the primary in RAT_POSTGRES_URL (target_session_attrs=read-write)"
        return problem(PART, f"{what}; it is a standby and takes no writes", fix=fix)
    return fine(PART, what)


def encryption(connection: Connection, url: URL) -> Finding:
    """Whether somebody on the way can read along."""
    part = f"{PART} TLS"
    driver = driver_of(connection)
    if driver.pgconn.ssl_in_use:
        mode = str(url.query.get("sslmode", "prefer"))
        if mode == "verify-full":
            return fine(part, "encrypted, and the server's certificate is verified")
        what = f"encrypted, but sslmode={mode} takes any server for the right one"
        return warning(
            part, what, fix="write sslmode=verify-full&sslrootcert=/path/ca.pem"
        )
    host = driver.info.host
    if host.startswith("/") or host in ("localhost", "127.0.0.1", "::1"):
        return fine(part, "none is needed: it is on this machine")
    what = f"what goes to {host} and back is not encrypted"
    return warning(part, what, fix="write sslmode=verify-full&sslrootcert=/path/ca.pem")


def clock(connection: Connection) -> Finding:
    """How far its clock is from ours."""
    before = datetime.now(UTC)
    theirs = connection.scalar(text("SELECT clock_timestamp()"))
    ours = before + (datetime.now(UTC) - before) / 2
    return compare_clocks(f"{PART} clock", theirs=theirs or ours, ours=ours)


def pooler(connection: Connection) -> Finding:
    """Whether something stands in between; a pooler makes up the number of the process."""
    said = driver_of(connection).info.backend_pid
    is_direct = said == connection.scalar(text("SELECT pg_backend_pid()"))
    return fine(f"{PART} pooler", "none in between" if is_direct else "one in between")


def free_connections(connection: Connection) -> Finding:
    """Whether there are enough connections for all that RAT is."""
    part = f"{PART} connections"
    row = connection.execute(text(CONNECTIONS)).one()
    limits = [row.allowed, row.of_role, row.of_database]
    allowed = min(each for each in limits if each >= 0)
    what = f"{row.used} of {allowed} in use"
    if allowed - row.used < NEEDED:
        fix = f"raise max_connections (or the role's or database's limit): RAT wants {NEEDED} free"
        return warning(part, what, fix=fix)
    return fine(part, what)


def rights(connection: Connection) -> Finding:
    """Whether its user may do what it has to."""
    part = f"{PART} rights"
    row = connection.execute(text(RIGHTS), {"schemas": list(migrations.SCHEMAS)}).one()
    user = connection.scalar(text("SELECT current_user"))
    if not row.tables:
        may = "SELECT has_database_privilege(current_database(), 'CREATE')"
        if connection.scalar(text(may)):
            return fine(part, f"{user} may make schemas")
        fix = f"GRANT CREATE ON DATABASE … TO {user}, or make RAT's schemas for it"
        return warning(part, f"{user} may make no schemas", fix=fix)
    if not row.may_work:
        fix = f"run `rat grant {user} --work` as the owner of the tables"
        return problem(part, f"{user} may not work in {row.refused}", fix=fix)
    what = "works and migrates" if row.may_migrate else "works, another role migrates"
    return fine(part, f"{user} {what}")


def schemas(metadata: Metadata, *, own: bool) -> Finding:
    """Whether the schemas are those of this checkout."""
    found, head = migrations.current(metadata.engine), migrations.head()
    if found == head:
        return fine(SCHEMAS, f"at {head}")
    if found is None:
        what = "RAT's are not there yet"
        return warning(SCHEMAS, what, fix="run `rat migrate`, or any other command")
    if found not in migrations.revisions():
        what = f"at {found}, newer than this checkout's {head}"
        return problem(SCHEMAS, what, fix="update the checkout")
    what = f"at {found}, this checkout needs {head}"
    if own:
        return problem(SCHEMAS, what, fix="run `rat migrate`")
    return warning(
        SCHEMAS, what, fix="the next command upgrades them; or `rat migrate`"
    )


def driver_of(connection: Connection) -> Driver:
    """The connection as the driver has it."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, Driver)  # noqa: S101 - for the type
    return driver
