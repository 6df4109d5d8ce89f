"""Taking a backup: one snapshot of Postgres, and of a server's branches what they were in that moment.

Runs go on meanwhile. With a server a merge and its facts are two steps: the snapshot is taken while no
publication is between them, which holds up whoever wants to merge for that moment only.
"""

import importlib.metadata
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, text

from rat_resources.backup import needs, references, tables
from rat_resources.backup.container import Manifest, TableCopy, Writer, writing
from rat_resources.errors import ConflictError
from rat_resources.lake.refs import Reference
from rat_resources.metadata import Metadata, migrations
from rat_resources.platform import Platform

DISTRIBUTION = "rat-lakehouse"
PATIENCE = timedelta(minutes=2)
PAUSE = 0.1  # seconds

SNAPSHOT = text("""
    SELECT
        clock_timestamp() AS made_at,
        current_setting('server_version') AS server,
        (SELECT version_num FROM rat.schema_migrations) AS revision,
        (SELECT version_num FROM dagster.alembic_version) AS dagster_revision
""")


@dataclass(frozen=True)
class Moment:
    """What is backed up: a transaction that sees one moment, and the references of that moment."""

    connection: Connection
    made_at: datetime
    server: str
    revision: str
    dagster_revision: str
    references: tuple[Reference, ...] | None


def back_up(whole: Platform, path: Path) -> Manifest:
    """Write everything into a file, which is there once it is whole; what it is of."""
    with writing(path) as file, moment(whole) as seen:
        copies = [copy(file, seen, each) for each in tables.list_all(seen.connection)]
        manifest = describe(whole, seen, copies)
        heads = needs.heads_of(seen.connection, seen.references)
        tables_needed = list(needs.tables_at(whole.lake.refs, heads))
        needs.record(whole.metadata, path, made_at=seen.made_at, tables=tables_needed)
        file.close(manifest)
    return manifest


def copy(file: Writer, seen: Moment, table: tables.Table) -> TableCopy:
    """Write a table into the file."""
    lines = 0

    def count(chunks: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal lines
        for chunk in chunks:
            # Within a value a line break is written as \\n.
            lines += chunk.count(b"\n")
            yield chunk

    planned = TableCopy(table.schema, table.name, table.columns, rows=0, checksum="")
    chunks = count(tables.copy_out(seen.connection, table))
    checksum = file.add(planned.member, chunks)
    return TableCopy(table.schema, table.name, table.columns, lines, checksum)


def describe(whole: Platform, seen: Moment, copies: Sequence[TableCopy]) -> Manifest:
    """What the file is of."""
    settings, held = whole.settings, seen.references
    return Manifest(
        made_at=seen.made_at.isoformat(),
        rat=importlib.metadata.version(DISTRIBUTION),
        org=settings.org,
        environment=settings.environment,
        server=seen.server,
        revision=seen.revision,
        dagster_revision=seen.dagster_revision,
        store=settings.environ["RAT_STORE"],
        warehouse=settings.environ["RAT_WAREHOUSE"],
        tables=tuple(copies),
        sequences=tables.read_sequences(seen.connection),
        # Commits never change: what they hold is read without holding up anybody.
        references=None
        if held is None
        else tuple(references.describe(whole.lake.refs, each) for each in held),
    )


@contextmanager
def moment(whole: Platform) -> Iterator[Moment]:
    """One moment of Postgres and of the branches."""
    migrations.refuse_old(whole.metadata.engine)
    engine = whole.metadata.engine.execution_options(isolation_level="REPEATABLE READ")
    with engine.connect() as connection, connection.begin():
        if whole.lake.refs.transactional:
            yield look(connection, held=None)
            return
        with no_merges(whole.metadata):
            # The snapshot is that of the first question.
            connection.execute(text(tables.PLAINLY))
            held = tuple(references.list_all(whole.lake.refs))
        yield look(connection, held=held)


def look(connection: Connection, *, held: tuple[Reference, ...] | None) -> Moment:
    """The moment that a transaction sees."""
    connection.execute(text(tables.PLAINLY))
    row = connection.execute(SNAPSHOT).mappings().one()
    return Moment(connection, **row, references=held)


@contextmanager
def no_merges(metadata: Metadata) -> Iterator[None]:
    """A block during which no publication is between its merge and its facts, nor gets there."""
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while True:
        with metadata.transaction() as tx:
            tx.execute(text("SET LOCAL lock_timeout = '10s'"))
            tx.execute(text("LOCK TABLE rat.publications IN SHARE MODE"))
            if not tx.scalar(text(UNDECIDED)):
                yield
                return
        if time.monotonic() > deadline:
            message = f"a merge has been under way for {PATIENCE.seconds} seconds"
            raise ConflictError(message, fix="run `rat reconcile`, then try again")
        time.sleep(PAUSE)


UNDECIDED = """
    SELECT count(*) FROM rat.publications WHERE state IN ('merging', 'undoing')
"""
