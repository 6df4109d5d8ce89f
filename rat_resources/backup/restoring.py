"""Restoring: a RAT made from a backup again, all of it or nothing.

Everything is checked first. Postgres is filled in one transaction, within which a server's branches are
put back; what was on its way when the backup was taken has died since, and is ended afterwards.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import dagster as dg
from sqlalchemy import Connection, text

from rat_resources.archive import PROCESSED
from rat_resources.backup import references, tables
from rat_resources.backup.container import Manifest, Reader, TableCopy, reading
from rat_resources.errors import BackupError
from rat_resources.instance import forget_daemon, upgrade_dagster
from rat_resources.metadata import Metadata, find_server, migrations
from rat_resources.mirror import log
from rat_resources.platform import Platform, open_refs
from rat_resources.reconciliation import (
    end_dead_run,
    long_enough,
    reconcile,
    unfinished,
)
from rat_resources.settings import Settings

HELD = (
    "rat.releases",
    "rat.runs",
    "rat.landing_files",
    "chm.clients",
    "dagster.runs",
)
UNDER_WAY = [
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.CANCELING,
    dg.DagsterRunStatus.NOT_STARTED,
]
BEFORE = "it was under way when the backup was taken that is restored now"


@dataclass(frozen=True)
class Restored:
    """What a restore did."""

    manifest: Manifest
    lines: tuple[str, ...]  # what is worth knowing, a line each


def restore(
    settings: Settings, path: Path, *, force: bool = False, reset_main: bool = False
) -> Restored:
    """Fill Postgres, and a server's branches, from a file; BackupError where it must not be done.

    With *force* what stands there is replaced; with *reset_main* a server's main is taken back.
    """
    with reading(path) as file, Metadata.connect(find_server(settings)) as metadata:
        refuse_misfit(settings, file.manifest)
        prepare(metadata, file.manifest, force=force)
        with migrations.locked(metadata.engine) as connection:
            fill(connection, file)
            lines = put_back(settings, metadata, file.manifest, reset=reset_main)
    return Restored(file.manifest, (*moved(settings, file.manifest), *lines))


# What must be right before anything is done.


def refuse_misfit(settings: Settings, manifest: Manifest) -> None:
    """BackupError where the backup is of another kind of RAT than the settings are."""
    migrations.refuse_newer(manifest.revision)
    if (manifest.references is None) != (settings.nessie is None):
        there = "Postgres" if manifest.references is None else "a Nessie server"
        verb = "unset" if manifest.references is None else "set"
        message = f"the backup is of a RAT that keeps its branches in {there}"
        raise BackupError(message, fix=f"{verb} RAT_NESSIE_URL")


def prepare(metadata: Metadata, manifest: Manifest, *, force: bool) -> None:
    """Make the tables where there are none; BackupError where somebody needs what stands there."""
    if migrations.current(metadata.engine) is None:
        migrations.upgrade(metadata.engine)
    else:
        refuse_living(metadata)
        refuse_full(metadata, force=force)
    upgrade_dagster(metadata)
    with metadata.engine.connect() as connection:
        found = connection.scalar(
            text("SELECT version_num FROM dagster.alembic_version")
        )
    if found != manifest.dagster_revision:
        message = (
            f"the backup has Dagster's tables of revision {manifest.dagster_revision},"
            f" and the installed Dagster's are of {found}"
        )
        fix = f"restore it with RAT {manifest.rat}, then upgrade"
        raise BackupError(message, fix=fix)


def refuse_living(metadata: Metadata) -> None:
    """BackupError while somebody works with this Postgres."""
    with metadata.engine.connect() as connection:
        if migrations.current(metadata.engine) and connection.scalar(text(LIVING)):
            message = "RAT is running on this Postgres"
            fix = "stop its runs and `rat dev`, wait a minute, and try again"
            raise BackupError(message, fix=fix)


LIVING = """
    SELECT EXISTS (SELECT FROM rat.leases WHERE holder IS NOT NULL AND expires_at > now())
"""


def refuse_full(metadata: Metadata, *, force: bool) -> None:
    """BackupError where there is something to lose, unless it shall be lost."""
    with metadata.engine.connect() as connection:
        full = [each for each in HELD if holds_rows(connection, each)]
    if full and not force:
        message = f"this RAT is not empty: {', '.join(full)}"
        raise BackupError(message, fix="with --force what stands there is replaced")


def holds_rows(connection: Connection, table: str) -> bool:
    """Whether a table is there, and not empty."""
    there = connection.scalar(text("SELECT to_regclass(:name)"), {"name": table})
    return bool(there) and bool(
        connection.scalar(text(f"SELECT EXISTS (SELECT FROM {table})"))
    )


# Doing it.


def fill(connection: Connection, file: Reader) -> None:
    """Make the tables hold what the file holds, and nothing else, at today's revision."""
    connection.execute(text(tables.PLAINLY))
    migrations.move_to(connection, file.manifest.revision)
    standing = tables.list_all(connection)
    copies = {(each.schema, each.name): each for each in file.manifest.tables}
    refuse_unknown(standing, copies.values())
    tables.empty(connection, standing)
    tables.set_triggers(connection, standing, enabled=False)
    for table in tables.in_order(connection, standing):
        copied = copies.get((table.schema, table.name))
        if copied is not None:
            wanted = tables.Table(table.schema, table.name, copied.columns)
            tables.copy_in(connection, wanted, file.chunks(copied))
    tables.set_triggers(connection, standing, enabled=True)
    tables.set_sequences(connection, file.manifest.sequences)
    for statement in FREE:
        connection.execute(text(statement))
    migrations.move_to(connection, migrations.head())


# Whoever held a lease may live on, and must not publish.
FREE = (
    "UPDATE rat.leases SET holder = NULL, worker = NULL, fence = fence + 1"
    " WHERE holder IS NOT NULL",
)


def refuse_unknown(
    standing: Sequence[tables.Table], copies: Iterable[TableCopy]
) -> None:
    """BackupError for rows that no table would hold."""
    known = {(table.schema, table.name) for table in standing}
    lost = [
        each for each in copies if each.rows and (each.schema, each.name) not in known
    ]
    if lost:
        names = ", ".join(f"{each.schema}.{each.name}" for each in lost)
        message = f"the backup holds rows of tables that RAT does not make: {names}"
        raise BackupError(message, fix="somebody made them in RAT's schemas; move them")


def put_back(
    settings: Settings, metadata: Metadata, manifest: Manifest, *, reset: bool
) -> list[str]:
    """Put a server's branches back; what was done, a line each."""
    if manifest.references is None:
        return []
    return references.put_back(
        open_refs(settings, metadata),
        manifest.references,
        made_at=datetime.fromisoformat(manifest.made_at),
        reset=reset,
    )


def moved(settings: Settings, manifest: Manifest) -> Iterator[str]:
    """What is not where it was."""
    for name in ("store", "warehouse"):
        now, was = settings.environ[f"RAT_{name.upper()}"], getattr(manifest, name)
        if now != was:
            yield f"the {name} was {was} and is {now} now; its files must be at both, or where they were"


# Afterwards.


def settle(whole: Platform, instance: dg.DagsterInstance) -> list[str]:
    """End what was under way when the backup was taken; what was done, a line each."""
    forget_daemon(instance)
    with whole.metadata.transaction() as tx:
        run_ids = [run.id for run in unfinished(tx)]
    lines: list[str] = []
    for run_id in run_ids:
        lines += end_dead_run(whole, run_id, patience=long_enough(whole))
    for run in instance.get_runs(dg.RunsFilter(statuses=UNDER_WAY)):
        instance.report_run_failed(run, message=BEFORE)
        lines.append(f"Dagster run {run.run_id}: {BEFORE}")
    lines += reconcile(whole, instance, patience=long_enough(whole))
    log.catch_up(whole.metadata)
    return [*lines, *processed_since(whole)]


def processed_since(whole: Platform) -> Iterator[str]:
    """Files that were read and moved aside after the backup: nobody would read them again."""
    with whole.metadata.transaction() as tx:
        zones = tx.execute(text(ZONES)).all()
    for namespace, name in zones:
        zone = f"{namespace}/landing/{name}"
        by_run: dict[str, list[str]] = {}
        for key in whole.store.list(f"{zone}/{PROCESSED}"):
            run_id, _, file = key.removeprefix(f"{zone}/{PROCESSED}/").partition("/")
            by_run.setdefault(run_id if file else "", []).append(key)
        with whole.metadata.transaction() as tx:
            known = {"", *tx.scalars(text(KNOWN), {"ids": [*by_run]})}
        for run_id in sorted(by_run.keys() - known):
            for key in by_run[run_id]:
                yield f"{key} was processed after the backup; to have it read, move it to {zone}"


KNOWN = "SELECT id::text FROM rat.runs WHERE id::text = ANY(:ids)"
ZONES = "SELECT namespace, name FROM rat.landing_zones ORDER BY namespace, name"
