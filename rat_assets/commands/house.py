"""Keeping house: settings, schemas, the Postgres, and what a crash left open."""

from collections.abc import Sequence

import click

from rat_assets.commands.display import print_json, print_table
from rat_resources.settings import Settings


def settings(*, as_json: bool) -> None:
    """Print every setting, secrets masked."""
    listed = Settings.load().listed()
    if as_json:
        print_json(
            [
                {
                    "name": each.name,
                    "value": each.shown,
                    "source": each.source,
                    "variable": each.variable,
                    "help": each.help,
                }
                for each in listed
            ]
        )
        return
    print_table(
        ("variable", "value", "source", "what it is"),
        [(each.variable, each.shown, each.source, each.help) for each in listed],
    )


def migrate() -> None:
    """Bring the schemas to this checkout's revision, Dagster's tables too."""
    from rat_resources.instance import upgrade_dagster
    from rat_resources.metadata import Metadata, find_server, introduce, migrations

    settings = Settings.load()
    server = find_server(settings)
    with Metadata.connect(server) as metadata:
        before = migrations.current(metadata.engine)
        migrations.upgrade(metadata.engine)
        with metadata.transaction() as tx:
            introduce(tx, settings)
        upgrade_dagster(metadata)
    head = migrations.head()
    said = "already at" if before == head else f"from {before or 'nothing'} to"
    click.echo(f"schemas {said} {head}")


def grant(
    role: str, *, schemas: Sequence[str], work: bool, revoke: bool, only_sql: bool
) -> None:
    """Give a role its rights, take them back, or print the statements."""
    from rat_resources.metadata import Metadata, find_server, grants, migrations

    settings = Settings.load()
    purpose = grants.Purpose.WORK if work else grants.Purpose.READ
    with Metadata.connect(find_server(settings)) as metadata:
        migrations.refuse_old(metadata.engine)
        with metadata.engine.begin() as connection:
            said = (
                grants.revocation(connection, role)
                if revoke
                else grants.statements(
                    connection, role, purpose, schemas or grants.REPORTING
                )
            )
            if not only_sql:
                grants.carry_out(connection, said, role)
    if only_sql:
        click.echo("".join(f"{each};\n" for each in said), nl=False)
    elif revoke:
        click.echo(f"{role} has no rights here any more")
    else:
        shown = "everything" if work else ", ".join(schemas or grants.REPORTING)
        click.echo(f"{role} may {'work in' if work else 'read'} {shown}")


def dsn() -> None:
    """Print where the Postgres is, for psql."""
    from rat_resources.metadata import addresses, find_server

    click.echo(addresses.write(find_server(Settings.load())))


def stop() -> None:
    """Stop the embedded Postgres, if it is ours and runs."""
    from rat_resources.metadata import embedded

    settings = Settings.load()
    if settings.postgres_url is not None:
        click.echo("RAT_POSTGRES_URL names a Postgres of your own; it stays as it is")
    elif embedded.stop(settings.home):
        click.echo("stopped the embedded Postgres")
    else:
        click.echo("no embedded Postgres was running")


def reconcile(*, as_json: bool) -> int:
    """Finish or undo what a crash left open, and say what that was; 1 where something stays open."""
    from rat_assets.commands.opening import open_platform
    from rat_assets.location import find_assets
    from rat_assets.reports.star import star_assets
    from rat_resources import hand_written, leftovers, reconciliation
    from rat_resources.instance import open_instance
    from rat_resources.mirror import log

    whole = open_platform()
    with open_instance() as instance:
        patience = reconciliation.long_enough(whole)
        done = reconciliation.reconcile(whole, instance, patience=patience)
        left = leftovers.left_open(whole, instance)
    written = (*find_assets(whole.settings.project), *star_assets())
    known = [each.table for each in written]
    done += hand_written.retire_missing(whole.metadata, known=known)
    log.catch_up(whole.metadata)
    if as_json:
        print_json({"done": done, "left_open": left})
        return int(bool(left))
    for line in done or ([] if left else ["nothing was left open"]):
        click.echo(line)
    for line in left:
        click.echo(f"still open: {line}")
    return int(bool(left))
