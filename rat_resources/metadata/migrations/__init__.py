"""Migrations: how the schemas of Postgres become what the models say.

Alembic, configured here. Revisions are numbered by concern, in the order in which the tables
depend on each other; the last file's name is the head. An upgrade is one transaction under an
advisory lock, so two at once are one after the other and a failed one leaves nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from rat_resources.errors import MetadataError

FOLDER = Path(__file__).parent
SCHEMA = "rat"
VERSION_TABLE = "schema_migrations"
# Dagster's tables outlast a downgrade, and so does the table of our version.
LASTING = ("rat", "dagster")
SCHEMAS = (*LASTING, "lake", "trace", "trace_by_name", "chm", "lakeflow")
BASE = "base"

# Any number, as long as it stays: "rat" in ASCII.
LOCK = 0x726174
LOCK_TIMEOUT = "60s"

UNDEFINED_TABLE = "42P01"
INVALID_SCHEMA = "3F000"
LOCK_NOT_AVAILABLE = "55P03"


@cache
def revisions() -> tuple[str, ...]:
    """Every revision of this checkout, oldest first."""
    return tuple(sorted(path.stem for path in (FOLDER / "versions").glob("[0-9]*.py")))


def head() -> str:
    """The revision that this checkout needs."""
    return revisions()[-1]


def current(engine: Engine) -> str | None:
    """The revision of the database; None when it holds nothing of RAT's yet."""
    try:
        with engine.connect() as connection:
            found = connection.execute(
                text(f"SELECT version_num FROM {SCHEMA}.{VERSION_TABLE}")
            )
            version: str | None = found.scalar()
            return version
    except (ProgrammingError, OperationalError) as error:
        if sqlstate(error) in (UNDEFINED_TABLE, INVALID_SCHEMA):
            return None
        raise


def ensure_head(engine: Engine, *, upgrade_old: bool) -> None:
    """See that the database is at the head; an empty one is filled, an old one if *upgrade_old*."""
    found = current(engine)
    if found == head():
        return
    refuse_newer(found)
    if found is not None and not upgrade_old:
        raise outdated(found)
    upgrade(engine)


def refuse_old(engine: Engine) -> None:
    """MetadataError when the database is at another revision than this checkout's."""
    found = current(engine)
    refuse_newer(found)
    if found != head():
        raise outdated(found)


def outdated(found: str | None) -> MetadataError:
    """What is said of a database that waits for its upgrade."""
    at = "holds none of RAT's schemas" if found is None else f"is at revision {found}"
    return MetadataError(
        f"the database {at}, this checkout needs {head()}", fix="run `rat migrate`"
    )


def refuse_newer(found: str | None) -> None:
    """MetadataError for a revision that this checkout does not know."""
    if found is not None and found not in revisions():
        message = (
            f"the database is at revision {found}, newer than this checkout's {head()}"
        )
        raise MetadataError(message, fix="update the checkout")


def upgrade(engine: Engine) -> None:
    """Bring the database to the head; nothing happens when it is there."""
    refuse_newer(current(engine))
    with locked(engine) as connection:
        if not has_version_table(connection):
            refuse_taken(connection, *SCHEMAS)
        ensure_schema(connection, SCHEMA)
        migrate(connection, lambda script, at: script._upgrade_revs("head", at))  # noqa: SLF001 - what alembic's own command calls


def downgrade(engine: Engine, to: str = BASE) -> None:
    """Take the database back to revision *to*, and lose what later ones held."""
    with locked(engine) as connection:
        migrate(connection, lambda script, at: script._downgrade_revs(to, at))  # noqa: SLF001 - what alembic's own command calls


def move_to(connection: Connection, revision: str) -> None:
    """Take the database of a transaction to *revision*, which is older or newer."""
    found = connection.scalar(text(f"SELECT version_num FROM {SCHEMA}.{VERSION_TABLE}"))
    known = revisions()
    if known.index(revision) > known.index(found):
        migrate(connection, lambda script, at: script._upgrade_revs(revision, at))  # noqa: SLF001 - what alembic's own command calls
    elif revision != found:
        migrate(connection, lambda script, at: script._downgrade_revs(revision, at))  # noqa: SLF001 - what alembic's own command calls


def ensure_schema(connection: Connection, name: str) -> None:
    """Create a schema; where an administrator made it, the right to do so is not needed."""
    exists = text("SELECT 1 FROM pg_namespace WHERE nspname = :name")
    if connection.execute(exists, {"name": name}).first() is None:
        connection.execute(text(f'CREATE SCHEMA "{name}"'))
    elif name not in LASTING:
        refuse_taken(connection, name)


def has_version_table(connection: Connection) -> bool:
    """Whether RAT has been in this database before."""
    table = text("SELECT to_regclass(:name) IS NOT NULL")
    return bool(connection.scalar(table, {"name": f"{SCHEMA}.{VERSION_TABLE}"}))


def refuse_taken(connection: Connection, *schemas: str) -> None:
    """MetadataError when one of *schemas* holds what somebody else has put there."""
    found = connection.execute(
        text(
            "SELECT relnamespace::regnamespace::text AS schema, min(relname) AS name"
            " FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')"
            " AND relnamespace::regnamespace::text = ANY(:schemas) GROUP BY 1 ORDER BY 1"
        ),
        {"schemas": list(schemas)},
    ).first()
    if found is None:
        return
    message = f"schema {found.schema} holds tables that RAT has not made, such as {found.name}"
    raise MetadataError(
        message, fix="give RAT a database of its own, or rename that schema"
    )


def execute_script(connection: Connection, name: str) -> None:
    """Run the statements of a file of SQL beside the revisions."""
    # Without parameters, so that % and : mean what SQL means by them.
    with closing(connection.connection.cursor()) as cursor:
        cursor.execute((FOLDER / "versions" / name).read_text())


@contextmanager
def locked(engine: Engine) -> Iterator[Connection]:
    """A transaction in which nobody else migrates."""
    with engine.begin() as connection:
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
        try:
            # The lock ends with the transaction: a pooler may stand in between.
            connection.execute(
                text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK}
            )
            yield connection
        except OperationalError as error:
            if sqlstate(error) != LOCK_NOT_AVAILABLE:
                raise
            message = f"somebody else has held a lock on the schemas for {LOCK_TIMEOUT}"
            raise MetadataError(
                message,
                fix="wait for their migration or stop what runs, then try again",
            ) from error


def migrate(connection: Connection, plan: Callable[[Any, Any], Any]) -> None:
    """Run the steps that *plan* finds from the revision where the database is."""
    # Only who migrates pays for importing alembic.
    from alembic.config import Config  # noqa: PLC0415
    from alembic.runtime.environment import EnvironmentContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    script = ScriptDirectory(str(FOLDER))
    with EnvironmentContext(
        config, script, fn=lambda at, _: plan(script, at)
    ) as environment:
        environment.configure(
            connection=connection,
            version_table=VERSION_TABLE,
            version_table_schema=SCHEMA,
        )
        environment.run_migrations()


def sqlstate(error: DBAPIError) -> str | None:
    """Postgres's code for an error."""
    return getattr(error.orig, "sqlstate", None)
