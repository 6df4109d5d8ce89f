"""Metadata: everything that RAT knows, in one Postgres; yours, or one that starts itself.

The tables and the statements on them are the modules beside this one, one a concern. Dagster's own
tables live in the same database (`rat_resources.instance`).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Self

import psycopg
from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from rat_resources.errors import MetadataError
from rat_resources.metadata import addresses, deployment, embedded, migrations
from rat_resources.metadata.zeros import as_json
from rat_resources.settings import Settings

DAGSTER_SCHEMA = "dagster"

# Connection, authorization, catalog, resources, shutdown: the operator's. Locks and
# serialization (55, 40) and a cancelled statement (57014) belong to whoever sent it.
UNUSABLE = ("08", "28", "3D", "53", "57", "58")
CANCELLED = "57014"
READ_ONLY = "25006"
FORBIDDEN = "42501"
REFUSED_PARAMETER = re.compile(r"unsupported startup parameter[^:]*: (\w+)")
# Seconds; a server whose machine is gone never says so.
PATIENCE = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
# The oldest that its own developers still mend.
OLDEST = 15


@dataclass(frozen=True)
class Metadata:
    """The connections to RAT's Postgres."""

    engine: Engine

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Find or start the Postgres of *settings* and see that its schemas are today's.

        The embedded one is upgraded when it is behind; yours only when it is empty.
        """
        metadata = cls.connect(find_server(settings))
        with suppress_leak(metadata):
            migrations.ensure_head(
                metadata.engine, upgrade_old=settings.postgres_url is None
            )
            with metadata.transaction() as tx:
                introduce(tx, settings)
        return metadata

    @classmethod
    def connect(cls, url: URL | str) -> Self:
        """Connections to the Postgres at *url*, whatever is in it."""
        engine = create_engine(
            with_driver(url, "psycopg"),
            pool_size=2,
            max_overflow=8,
            # The server may have been restarted since.
            pool_pre_ping=True,
            json_serializer=as_json,
            # A transaction pooler hands each transaction to another server session.
            connect_args={"prepare_threshold": None} | patience(url),
        )
        event.listen(engine, "handle_error", translate)
        # Before SQLAlchemy asks what an old server may not know.
        event.listen(engine, "connect", refuse_old, insert=True)
        return cls(engine)

    @property
    def url(self) -> URL:
        """Where it is, for SQLAlchemy."""
        return self.engine.url

    @property
    def dsn(self) -> str:
        """Where it is, for psql and every other program; with its password."""
        return addresses.write(self.url)

    @property
    def dagster_url(self) -> str:
        """Where Dagster keeps its tables, in DAGSTER_SCHEMA; password included."""
        url = with_driver(self.url, "psycopg2")
        return url.render_as_string(hide_password=False)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A unit of work: committed when the block ends well, else rolled back."""
        with Session(self.engine, expire_on_commit=False) as tx, tx.begin():
            yield tx

    def dispose(self) -> None:
        """Close the connections."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.dispose()


def introduce(tx: Session, settings: Settings) -> None:
    """Say what the deployment is called; where that is news, everybody hears what is published."""
    if not deployment.declare(tx, org=settings.org, environment=settings.environment):
        return
    # The mirror is written in the words of this package, and few who open it need it.
    from rat_resources import mirror  # noqa: PLC0415

    mirror.reflect_pipelines(tx)


def find_server(settings: Settings) -> URL:
    """Where the Postgres of *settings* is; the embedded one runs afterwards."""
    if settings.postgres_url is None:
        return make_url(embedded.start(settings.home).dsn)
    return addresses.read(settings.postgres_url)


def with_driver(url: URL | str, driver: str) -> URL:
    """*url*, spoken to through *driver*."""
    return make_url(url).set(drivername=f"postgresql+{driver}")


def patience(url: URL | str) -> dict[str, int]:
    """How long a connection waits for a server that says nothing, where *url* does not say it."""
    said = make_url(url).query
    return {name: value for name, value in PATIENCE.items() if name not in said}


def translate(context: ExceptionContext) -> MetadataError | None:
    """The MetadataError where the database itself cannot be used; other errors pass."""
    error = context.sqlalchemy_exception
    # A failed ping is not yet an error: the pool connects anew.
    if context.is_pre_ping or not isinstance(error, DBAPIError):
        return None
    state = getattr(error.orig, "sqlstate", None)
    if not is_unusable(error, state):
        return None
    said = str(error.orig).strip()
    message = f"Postgres at {shown(context)} cannot be used: {said}"
    refused = REFUSED_PARAMETER.search(said)
    if refused is not None:
        fix = f"the pooler refuses it: take {refused[1]} out of RAT_POSTGRES_URL"
        return MetadataError(message, fix=fix)
    return MetadataError(message, fix=advice(state))


def refuse_old(connection: psycopg.Connection, _record: object) -> None:
    """MetadataError when the server is older than what RAT's statements need."""
    version = connection.info.server_version
    if version >= OLDEST * 10_000:
        return
    major = version // 10_000
    shown = f"{major}.{version // 100 % 100}" if major < 10 else major  # noqa: PLR2004 - as 9.6 was called
    message = (
        f"Postgres at {connection.info.host}:{connection.info.port} is version {shown}"
    )
    connection.close()
    raise MetadataError(
        message,
        fix=f"upgrade it to {OLDEST} or newer, or unset RAT_POSTGRES_URL for the embedded one",
    )


def is_unusable(error: DBAPIError, state: str | None) -> bool:
    """Whether the server, not the statement, is what is wrong."""
    if state is None:
        return (
            error.connection_invalidated or type(error).__name__ == "OperationalError"
        )
    if state in (READ_ONLY, FORBIDDEN):
        return True
    return state[:2] in UNUSABLE and state != CANCELLED


def shown(context: ExceptionContext) -> str:
    """Where the server of an error is, without its password."""
    if context.engine is None:
        return "?"
    url = context.engine.url.set(drivername="postgresql")
    # What remains of it is told by no error: certificates, options.
    return url.set(query={}).render_as_string() if url.host else url.render_as_string()


def advice(state: str | None) -> str:
    """What the operator can do about an error of this class."""
    if state is not None and state.startswith("3D"):
        return "create that database, or correct RAT_POSTGRES_URL"
    if state == READ_ONLY:
        return "name the primary, or let its user write (default_transaction_read_only)"
    if state == FORBIDDEN:
        return "grant its user CREATE on the database, and the schemas that RAT made"
    if state is not None and state.startswith("53"):
        return "give it more connections, memory or disk"
    return "see that it runs, and that RAT_POSTGRES_URL is right (`rat settings`)"


@contextmanager
def suppress_leak(metadata: Metadata) -> Iterator[None]:
    """Close the connections of a metadata that could not be opened."""
    try:
        yield
    except BaseException:
        with suppress(Exception):
            metadata.dispose()
        raise
