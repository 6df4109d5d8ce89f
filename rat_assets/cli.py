"""The rat command: what a user types, and what is said when it goes wrong.

What each command does is a module of `rat_assets.commands`, imported when it is called: help must
not wait for Dagster. Exit codes: 0 done, 1 failed, 2 a wrong call, 130 stopped by Ctrl-C.
"""

import gc
import os
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import click
from click.exceptions import NoArgsIsHelpError

from rat_resources.errors import PublishError, RatError
from rat_resources.names import nearest
from rat_resources.settings import shows_tracebacks

FAILED = 1
STOPPED = 130
GARBAGE_AFTER = 500_000  # objects
# What a shell says of a program whose reader went away (`rat query … | head`).
UNREAD = 141

EXISTING_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
EXISTING_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


class Commands(click.Group):
    """The commands; a wrong one is met with the nearest, an error with one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which they are met."""
        del ctx
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that was typed; UsageError with the one that was probably meant."""
        typed = args[0]
        if self.get_command(ctx, typed) is None and not typed.startswith("-"):
            guess = nearest(typed, self.commands)
            fix = f"did you mean {guess}?" if guess else "see `rat --help`"
            message = f"no command is called {typed}; {fix}"
            raise click.UsageError(message, ctx)
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **extra: Any) -> NoReturn:  # noqa: ANN401 - click's own
        """Run a command and exit with its code."""
        extra["standalone_mode"] = False
        sys.exit(self.exit_code(*args, **extra))

    def exit_code(self, *args: Any, **extra: Any) -> int:  # noqa: ANN401 - click's own
        """Run a command; its exit code, with everything said."""
        try:
            code = super().main(*args, **extra)
            sys.stdout.flush()
        except NoArgsIsHelpError as error:
            click.echo(error.format_message())
            return error.exit_code
        except click.ClickException as error:
            click.echo(f"rat: {one_line(error)}", err=True)
            return error.exit_code
        except (click.Abort, KeyboardInterrupt):
            click.echo("rat: stopped", err=True)
            return STOPPED
        except (BrokenPipeError, SystemExit):  # click leaves so when nobody reads on
            forget_output()
            return UNREAD
        except Exception as error:  # noqa: BLE001 - nobody shall see a traceback unasked
            return explain(error)
        return code if isinstance(code, int) else 0


def one_line(error: click.ClickException) -> str:
    """A wrong call in one line, with where to read how to call it right."""
    message = " ".join(error.format_message().split()).rstrip(".")
    path = (
        error.ctx.command_path
        if isinstance(error, click.UsageError) and error.ctx
        else "rat"
    )
    if "--help" in message:
        return message
    end = "" if message.endswith("?") else ";"
    return f"{message}{end} see `{path} --help`"


def explain(error: Exception) -> int:
    """Say in one line (one a problem) what went wrong."""
    if shows_tracebacks():
        traceback.print_exception(error)
    if isinstance(error, PublishError):
        for problem in error.problems:
            click.echo(str(problem), err=True)
        count = len(error.problems)
        problems = "1 problem" if count == 1 else f"{count} problems"
        click.echo(f"rat: {error.outcome}; solve {problems}", err=True)
    elif isinstance(error, RatError):
        # What Postgres and DuckDB say may go over several lines.
        click.echo(f"rat: {' '.join(str(error).split())}", err=True)
    else:
        said = str(error).strip().partition("\n")[0]
        name = type(error).__name__
        fix = "set RAT_DEBUG=1 for the traceback"
        click.echo(f"rat: {name}: {said}; {fix}", err=True)
    return FAILED


def forget_output() -> None:
    """Let the interpreter flush into nothing: nobody reads on."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> NoReturn:
    """The console script."""
    # Half of what is imported are objects that stay: looking through them again and again takes
    # a tenth of a short command.
    gc.set_threshold(GARBAGE_AFTER)
    try:
        rat.main()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else FAILED
    leave(code)


def leave(code: int) -> NoReturn:
    """Exit at once: with Dagster loaded the interpreter's own way takes 0.7 s."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (BrokenPipeError, ValueError):
            code = code or UNREAD
    os._exit(code)


@click.group(
    cls=Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@click.version_option(package_name="rat-lakehouse", prog_name="rat")
def rat() -> None:
    """RAT, a lakehouse on Dagster: files in, tested Iceberg tables out.

    \b
    A first round (`rat init DIR` makes a project of your own):
      rat publish examples/nyc_flights     make the pipelines current
      rat upload nyc/flights FILE.csv      put a file into a landing zone
      rat run nyc                          branch, compile, write, test, publish
      rat query "from nyc.gold.route_performance"

    `rat demo` plays it with real data; `rat dev` opens the UI.
    """


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


# Pipelines.


@rat.command()
@click.argument("path", required=False, type=EXISTING_FOLDER)
@click.option("-m", "--message", default="", help="Why, for the history of releases.")
@click.option(
    "--dry-run", is_flag=True, help="Say what would change, and change nothing."
)
@as_json
def publish(path: Path | None, message: str, *, dry_run: bool, as_json: bool) -> None:
    """Make pipelines current: all of them, or none.

    PATH holds {namespace}/pipelines/{layer}/{name}/… and is copied into the store; pipelines that
    it does not hold stay as they are. Without PATH, what the store holds is published.

    \b
    Example: rat publish examples/nyc_flights -m "count cancelled flights"
    """
    if dry_run:
        from rat_assets.commands import planning

        planning.plan(path, as_json=as_json)
        return
    from rat_assets.commands import publishing

    publishing.publish(path, message=message, as_json=as_json)


@rat.command()
@click.argument("names", metavar="NS.LAYER.NAME…", nargs=-1, required=True)
@click.option("-m", "--message", default="", help="Why, for the history of releases.")
@as_json
def retire(names: tuple[str, ...], message: str, *, as_json: bool) -> None:
    """Take pipelines out of what is published.

    By a new release, all of them or none; one that another published pipeline reads only
    together with that one. Tables stay on main; schedules and triggers stop.

    \b
    Example: rat retire nyc.gold.route_performance -m "nobody asks for it"
    """
    from rat_assets.commands import publishing

    publishing.retire(names, message=message, as_json=as_json)


@rat.command()
@click.argument("release", type=int, required=False)
@click.option("-m", "--message", default="", help="Why, for the history of releases.")
@click.option(
    "--dry-run", is_flag=True, help="Say what would change, and change nothing."
)
@as_json
def rollback(
    release: int | None, message: str, *, dry_run: bool, as_json: bool
) -> None:
    """Publish what an earlier RELEASE held, or list them.

    By a new release, all of it or nothing: changed pipelines get their files of then, those created
    since leave, those retired since come back. Tables stay on main until their pipelines run.

    \b
    Example: rat rollback 12 -m "the new rates are wrong"
    """
    from rat_assets.commands import publishing

    if release is None:
        publishing.list_releases(as_json=as_json)
        return
    publishing.roll_back(release, message=message, dry_run=dry_run, as_json=as_json)


@rat.command()
@click.argument("selection", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every published pipeline.")
@click.option("--downstream", is_flag=True, help="And everything that reads them.")
@click.option("--upstream", is_flag=True, help="And everything that they read.")
@click.option("--full-refresh", is_flag=True, help="Write the tables anew.")
@click.option(
    "--accept-changes", is_flag=True, help="Publish what a guard would stop, this once."
)
@click.option("--stale", is_flag=True, help="What `rat stale` lists, and no other.")
@click.option("--dry-run", is_flag=True, help="Of --stale: only say what would run.")
@as_json
def run(
    selection: tuple[str, ...],
    *,
    everything: bool,
    stale: bool,
    dry_run: bool,
    as_json: bool,
    **how: bool,
) -> int:
    """Run pipelines in dependency order, and wait.

    SELECTION is ns.layer.name, a pattern of it, or a namespace. The exit code is 0 only if
    everything asked for was published or had nothing new.

    With --stale everything that would be made otherwise now is, each by what it takes: an ordinary
    run for new data, a full refresh for another definition, what an invalidation asks for; and then
    what has become stale by that.

    \b
    Examples: rat run nyc.bronze.flights --downstream
              rat run 'nyc.silver.*'
              rat run --all
              rat run --stale --dry-run
    """
    if stale:
        if selection or everything or any(how.values()):
            message = "--stale chooses by itself what to run and how"
            raise click.UsageError(message)
        from rat_assets.commands import stale as restoring

        return restoring.run(dry_run=dry_run, as_json=as_json)
    if dry_run:
        message = "only --stale has a --dry-run"
        raise click.UsageError(message)
    if everything == bool(selection):
        message = "name what to run, or say --all; not both"
        raise click.UsageError(message)
    from rat_assets.commands import running

    return running.run(selection, everything=everything, as_json=as_json, **how)


@rat.command()
@click.argument("table", metavar="NS.LAYER.NAME")
@click.option("--partition", default="", help="One partition of it.")
@click.option("--where", default="", help='Which rows, as JSON: {"day": "2026-01-01"}.')
@click.option(
    "--columns", default="", help="The columns that are wrong, with commas between."
)
@click.option(
    "--reason",
    type=click.Choice(["reorg", "correction", "manual", "schema_change"]),
    default="manual",
    show_default=True,
)
@click.option("-m", "--message", default="", help="What happened.")
@click.option(
    "--run", "runs", is_flag=True, help="Make everything good here, and wait."
)
@click.option("--dry-run", is_flag=True, help="Only say who would be told.")
@as_json
def invalidate(
    table: str,
    *,
    partition: str,
    where: str,
    columns: str,
    reason: str,
    message: str,
    runs: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Say that rows of a table turned out wrong.

    What reads them is made anew, then what reads that, as far as rows change. All rows are meant,
    if neither a partition nor a filter names some.

    \b
    Examples: rat invalidate nyc.bronze.flights --partition 2013-01-05 --reason correction
              rat invalidate nyc.bronze.flights --where '{"day": {"gte": "2013-01-05"}}' --run
    """
    from rat_assets.commands import invalidating
    from rat_assets.invalidating import Ask

    named = tuple(each.strip() for each in columns.split(",") if each.strip())
    ask = Ask(table, partition, where, named, reason, message)
    return invalidating.invalidate(ask, run=runs, dry_run=dry_run, as_json=as_json)


@rat.command()
@click.argument("zone", metavar="NS/ZONE")
@click.argument("files", metavar="FILE…", nargs=-1, required=True, type=EXISTING_FILE)
@as_json
def upload(zone: str, files: tuple[Path, ...], *, as_json: bool) -> None:
    """Put files into a landing zone.

    Each appears whole or not at all. Copying them into the folder of the zone does the same.

    \b
    Example: rat upload nyc/flights flights_2014-01.csv
    """
    from rat_assets.commands import zones

    zones.upload(zone, files, as_json=as_json)


@rat.command()
@as_json
def waiting(*, as_json: bool) -> None:
    """List the landing files that wait for somebody, and why.

    The files of a failed run wait until their pipeline is published anew, a person runs it, or
    `rat reject` takes them out; newer files run without them.

    \b
    Example: rat waiting
    """
    from rat_assets.commands import zones

    zones.list_waiting(as_json=as_json)


@rat.command()
@click.argument("zone", metavar="NS/ZONE")
@click.argument("file")
def reject(zone: str, file: str) -> None:
    """Take a file out of a landing zone.

    It moves to _rejected/. For a file that makes its run fail; `rat run` would try it again.

    \b
    Example: rat reject nyc/flights flights_2014-01.csv
    """
    from rat_assets.commands import zones

    zones.reject(zone, file)


# Trying, before anything is published.

A_DRAFT = click.argument("pipeline", metavar="NS.LAYER.NAME|PATH")
fully = click.option(
    "--full-refresh", is_flag=True, help="As if the table were written anew."
)


@rat.command("compile")
@A_DRAFT
@fully
def compile_(pipeline: str, *, full_refresh: bool) -> None:
    """Print the SQL that would run.

    PATH is the folder of a draft or a file in it; a name means what is published. Only SQL goes
    to stdout.

    \b
    Examples: rat compile examples/nyc_flights/nyc/pipelines/silver/airlines
              rat compile nyc.silver.flights --full-refresh
    """
    from rat_assets.commands import authoring

    authoring.compile_(pipeline, full_refresh=full_refresh)


@rat.command()
@A_DRAFT
@click.option(
    "--limit",
    default=20,
    show_default=True,
    type=click.IntRange(min=0),
    help="Show so many rows.",
)
@click.option(
    "--samples", is_flag=True, help="Read _samples/ of landing zones, not their files."
)
@fully
@click.option(
    "--timeout",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds.",
)
@click.option("--memory", default="2GB", show_default=True, help="For DuckDB.")
@as_json
def preview(
    pipeline: str,
    *,
    limit: int,
    samples: bool,
    full_refresh: bool,
    timeout: float,
    memory: str,
    as_json: bool,
) -> int:
    """Try a draft against main, with its tests; nothing is written.

    Shows what the query returns, what would become of the table, and what each test says. Landing
    files are read where they lie; a zone without files gives its _samples/. The exit code is 0 if
    it would be published.

    \b
    Examples: rat preview examples/nyc_flights/nyc/pipelines/silver/airlines
              rat preview nyc.silver.flights --limit 5
    """
    from rat_assets.commands import authoring
    from rat_assets.rehearsal import Ask, Limits

    ask = Ask(full_refresh=full_refresh, samples=samples)
    limits = Limits(rows=limit, seconds=timeout, memory=memory)
    return authoring.preview(pipeline, ask=ask, limits=limits, as_json=as_json)


@rat.command()
@click.argument("selection", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every published pipeline.")
@click.option(
    "--timeout",
    default=300.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds for a pipeline; a test has 60.",
)
@as_json
def test(
    selection: tuple[str, ...], *, everything: bool, timeout: float, as_json: bool
) -> int:
    """Run the published tests on main.

    Only reads: a run's own verdicts, which Dagster shows, stay as they are. The exit code is 0
    only if no test of severity error fails.

    \b
    Examples: rat test nyc.silver.flights
              rat test --all
    """
    if everything == bool(selection):
        message = "name what to test, or say --all; not both"
        raise click.UsageError(message)
    from rat_assets.commands import authoring

    return authoring.test(
        selection, everything=everything, timeout=timeout, as_json=as_json
    )


# Looking.


@rat.command()
@click.argument("sql")
@click.option("--ref", default="main", help="A branch, a tag or a commit.")
@click.option(
    "--format",
    "form",
    default="table",
    show_default=True,
    type=click.Choice(["table", "csv", "json", "parquet"]),
)
@click.option(
    "--limit",
    default=1000,
    show_default=True,
    type=click.IntRange(min=0),
    help="At most so many rows; 0 for all.",
)
def query(sql: str, ref: str, form: str, limit: int) -> None:
    """Ask published tables by SQL that only reads.

    Tables are called ns.layer.name, or layer.name where only one namespace has it.

    \b
    Examples: rat query "SELECT carrier, count(*) FROM nyc.silver.flights GROUP BY ALL"
              rat query "FROM gold.route_performance" --format parquet --limit 0 > routes.parquet
    """
    from rat_assets.commands import querying

    querying.query(sql, ref=ref, form=form, limit=limit)


@rat.command()
@as_json
def tables(*, as_json: bool) -> None:
    """List the published tables.

    With their rows, snapshot, and the metadata.json that other readers want.
    """
    from rat_assets.commands import catalog

    catalog.tables(as_json=as_json)


@rat.command()
@click.argument("name", required=False)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="A PNG.")
@click.option("--ref", default="main", help="A branch, a tag or a commit.")
def report(name: str | None, out: Path | None, ref: str) -> None:
    """List the reports, or draw one.

    NAME is a table whose config.yaml has charts, or a report of the platform. With --out its
    first picture is written there, the next to FILE-2.png and so on; without, their numbers are
    printed.

    \b
    Examples: rat report nyc.gold.route_performance --out routes.png
              rat report rows_per_table
    """
    from rat_assets.commands import reporting

    if name is not None:
        reporting.draw(name, out=out, ref=ref)
    elif out is None:
        reporting.list_reports()
    else:
        message = "name the report that is to be written"
        raise click.UsageError(message)


@rat.command()
@click.argument("name", metavar="NS.LAYER.NAME[.COLUMN]")
@click.option("--up", is_flag=True, help="Only where it comes from.")
@click.option("--down", is_flag=True, help="Only where it goes.")
@as_json
def lineage(name: str, *, up: bool, down: bool, as_json: bool) -> None:
    """Show where a column comes from and goes to.

    All hops, from the files to the last table; of a table or view, each of its columns. A landing
    zone is called NS.landing.ZONE.

    \b
    Examples: rat lineage nyc.gold.route_performance.mean_mph --up
              rat lineage nyc.landing.flights.arr_delay --down
    """
    from rat_assets.commands import lineage as showing

    both = up == down
    showing.show(name, up=up or both, down=down or both, as_json=as_json)


@rat.command()
@click.argument("name", metavar="NS.LAYER.NAME[.COLUMN]")
@as_json
def impact(name: str, *, as_json: bool) -> None:
    """Show all that depends on a table or a column.

    Every table that reads it, directly or through others: which of its columns, how many rows,
    whose it is, what starts it, who is told, and how long making all of them anew takes. A landing
    zone is called NS.landing.ZONE.

    \b
    Examples: rat impact nyc.silver.flights
              rat impact nyc.silver.flights.dep_delay
    """
    from rat_assets.commands import impact as showing

    showing.show(name, as_json=as_json)


@rat.command()
@as_json
def stale(*, as_json: bool) -> int:
    """List the tables that would be made otherwise now, and why.

    Since when, and by which input: rows that have been published since it was read, files that
    have landed, an invalidation, or another definition. The exit code is 1 if there are any.

    \b
    Examples: rat stale
              rat run --stale
    """
    from rat_assets.commands import stale as showing

    return showing.show(as_json=as_json)


@rat.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(min=1), help="Rows."
)
@as_json
def runs(run_id: str | None, limit: int, *, as_json: bool) -> None:
    """List the newest runs, or show one of them.

    RUN is the id of a run, its first letters, or the id of a Dagster run; shown are its phases,
    tests, files, inputs, log and error.

    \b
    Examples: rat runs --limit 5
              rat runs 3f2a
    """
    from rat_assets.commands import history

    if run_id is None:
        history.list_runs(limit, as_json=as_json)
    else:
        history.show_run(run_id, as_json=as_json)


@rat.command()
@click.argument("table", metavar="[NS.LAYER.NAME]", required=False)
@click.option("--all", "everything", is_flag=True, help="What happened, newest first.")
@click.option("--definitions", is_flag=True, help="What is defined.")
@click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(min=1), help="Rows."
)
@as_json
def alerts(
    table: str | None, limit: int, *, everything: bool, definitions: bool, as_json: bool
) -> None:
    """List the alerts that are raised, since when, and who was told.

    Of one table where it is named. What alerts there are is said by {ns}/alerts/{name}.yaml and the
    job save_alert.

    \b
    Examples: rat alerts
              rat alerts nyc.silver.flights --all
              rat alerts --definitions
    """
    from rat_assets.commands import alerts as showing

    if definitions:
        showing.show_definitions(as_json=as_json)
    else:
        showing.show(table, everything=everything, limit=limit, as_json=as_json)


# Beginning.


@rat.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Make a project of your own in DIR.

    With an example from a landing zone to silver, and what Dagster needs. Nothing that is there
    is touched: whatever is in the way is named, and nothing is made.

    \b
    Example: rat init lake
    """
    from rat_assets.commands import scaffolding

    scaffolding.init(folder)


@rat.command()
@click.argument("name", metavar="NS.LAYER.NAME")
@click.option("--python", is_flag=True, help="A Python script in place of SQL.")
def new(name: str, *, python: bool) -> None:
    """Make a pipeline in the project: code, config.yaml, a test.

    Bronze reads the landing zone of its name, silver and gold a table of the layer below.

    \b
    Example: rat new shop.gold.revenue
    """
    from rat_assets.commands import scaffolding

    scaffolding.new(name, python=python)


# Keeping house.


@rat.command()
@as_json
def settings(*, as_json: bool) -> None:
    """List every setting, its source and its variable."""
    from rat_assets.commands import house

    house.settings(as_json=as_json)


@rat.command()
@as_json
def doctor(*, as_json: bool) -> int:
    """Look at every part, and say what to mend.

    Settings, Python, Postgres, branches, store, warehouse, disks, DuckDB, Dagster and landing zones.
    Changes nothing. The exit code is 1 where something does not work; warnings are none.

    \b
    Example: rat doctor
    """
    from rat_assets.commands import examining

    return examining.doctor(as_json=as_json)


@rat.command()
def migrate() -> None:
    """Create or upgrade the schemas in Postgres.

    Dagster's tables too. Safe to repeat, and to run twice at once.
    """
    from rat_assets.commands import house

    house.migrate()


@rat.command()
@click.argument("role")
@click.option(
    "--schema", "schemas", multiple=True, help="Only this schema; may be repeated."
)
@click.option("--work", is_flag=True, help="For runs, the daemon and the UI.")
@click.option("--revoke", is_flag=True, help="Take every right back.")
@click.option("--sql", "only_sql", is_flag=True, help="Print the statements, no more.")
def grant(
    role: str,
    schemas: tuple[str, ...],
    *,
    work: bool,
    revoke: bool,
    only_sql: bool,
) -> None:
    """Let a role of Postgres read, and nothing else.

    ROLE may then read the reporting schemas and call their dashboards; what it had before is taken
    back. With --work it may do all that RAT does from day to day, but change no table's shape.

    \b
    Example: rat grant reader --schema chm
    """
    if work and schemas:
        message = "daily work needs every schema: --work takes no --schema"
        raise click.UsageError(message)
    from rat_assets.commands import house

    house.grant(role, schemas=schemas, work=work, revoke=revoke, only_sql=only_sql)


@rat.command()
def dsn() -> None:
    """Print the URL of the Postgres, started if need be.

    \b
    Example: psql "$(rat dsn)"
    """
    from rat_assets.commands import house

    house.dsn()


@rat.command()
def stop() -> None:
    """Stop the embedded Postgres; it starts again when it is needed."""
    from rat_assets.commands import house

    house.stop()


@rat.command()
@as_json
def reconcile(*, as_json: bool) -> int:
    """Finish or undo what a crash left open.

    That is runs, branches, claimed files, leases, publications, Dagster's runs and its slots.
    Each run does so for its own pipeline; repeating it changes nothing. The exit code is 0 if
    nothing stays open.
    """
    from rat_assets.commands import house

    return house.reconcile(as_json=as_json)


@rat.command()
@click.option("--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
@as_json
def clean(*, dry_run: bool, as_json: bool) -> int:
    """Remove what is older than it is kept.

    That is Dagster's runs, events and ticks, logs, what dead runs left, drafts. RAT_RETENTION,
    retention.yaml and config.yaml say how long each is kept. Tables are never touched.
    """
    from rat_assets.commands import cleaning

    return cleaning.clean(dry_run=dry_run, as_json=as_json)


@rat.command()
@click.argument("tables", nargs=-1, metavar="[TABLE…]")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option(
    "--adopt-warehouse",
    is_flag=True,
    help="Take the warehouse over from another RAT, which is gone.",
)
@as_json
def maintain(
    tables: tuple[str, ...], *, dry_run: bool, adopt_warehouse: bool, as_json: bool
) -> int:
    """Keep tables fast: fewer files, no dead rows, no old snapshots.

    No row changes, and nothing runs because of it. Without TABLE it is all of them, and files
    that nothing needs any more are removed at the end.

    \b
    Examples: rat maintain --dry-run
              rat maintain nyc.silver.flights
    """
    from rat_assets.commands import maintaining

    return maintaining.maintain(
        tables, dry_run=dry_run, adopt=adopt_warehouse, as_json=as_json
    )


@rat.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def backup(file: Path) -> None:
    """Write everything that RAT knows into FILE, at one moment.

    That is Postgres with Dagster's tables, and the branches; runs may go on. The store and the
    warehouse are files already, and are not in it.
    """
    from rat_assets.commands import backing_up

    backing_up.backup(file)


@rat.command()
@click.argument("file", type=EXISTING_FILE)
@click.option("--force", is_flag=True, help="Replace what stands there.")
@click.option(
    "--reset-main",
    is_flag=True,
    help="Take a Nessie server's main back; a tag keeps what it was.",
)
def restore(file: Path, *, force: bool, reset_main: bool) -> None:
    """Make this RAT what FILE holds: all of it, or nothing.

    What was under way when the backup was taken is ended. The store and the warehouse must be
    there as they were, or newer.
    """
    from rat_assets.commands import backing_up

    backing_up.restore(file, force=force, reset_main=reset_main)


@rat.command()
@click.option(
    "--limit",
    default=20,
    show_default=True,
    type=click.IntRange(min=1),
    help="Show so many differences of a kind; all are counted.",
)
@as_json
def audit(limit: int, *, as_json: bool) -> int:
    """Compare what Dagster, Postgres and the catalog say.

    Only compares: it changes nothing. A line for each difference says where it is, of which id,
    what each side says, and what to do. The exit code is 0 without differences, 1 with, and 2 if
    it could not compare.

    \b
    Example: rat audit
    """
    from rat_assets.commands import auditing

    return auditing.audit(at_most=limit, as_json=as_json)


@rat.command()
@click.option(
    "--rebuild",
    is_flag=True,
    help="Everything, from the beginning; for a mirror that was emptied.",
)
def mirror(*, rebuild: bool) -> int:
    """Tell the reporting tables what Dagster's log knows.

    A sensor does so every ten seconds, and every command at its end. With --rebuild the schemas
    trace, chm and lakeflow are told anew from what rat and Dagster still hold; what they no longer
    hold is said, and rows of it stay. The exit code is 1 if something could not be read.

    \b
    Example: rat mirror --rebuild
    """
    from rat_assets.commands import mirroring

    return mirroring.mirror(everything=rebuild)


# Alerts.


@rat.command()
@click.option("--watch", is_flag=True, help="Go on until Ctrl-C or SIGTERM.")
@click.option(
    "--threads",
    default=8,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Messages at once.",
)
@as_json
def deliver(*, watch: bool, threads: int, as_json: bool) -> int:
    """Send the alerts that are due.

    A sensor does so every few seconds. Any number of these may run beside it and share the work;
    whoever is stopped gives back what it has not begun. The exit code is 1 if a delivery failed for
    good.

    \b
    Examples: rat deliver
              rat deliver --watch --threads 16
    """
    from rat_assets.commands import delivering

    return delivering.deliver(watch=watch, threads=threads, as_json=as_json)


@rat.group(cls=Commands)
def alert() -> None:
    """Try an alert, or what was not delivered of it."""


@alert.command("test")
@click.argument("name", metavar="NAME")
@click.option("--send", is_flag=True, help="Send one message that says it is a test.")
@as_json
def try_alert(name: str, *, send: bool, as_json: bool) -> int:
    """Show what an alert would raise now.

    With its figures and rows, of what is published; nobody is told, unless by --send. NAME is its
    name, or NS/NAME. The exit code is 1 where it cannot be evaluated, or a message is not taken.

    \b
    Examples: rat alert test nyc/late_flights
              rat alert test late_flights --send
    """
    from rat_assets.commands import alerting

    return alerting.try_alert(name, send=send, as_json=as_json)


@alert.command("retry")
@click.argument("ids", metavar="ID…", nargs=-1)
@click.option("--failed", is_flag=True, help="Everything that failed.")
@as_json
def retry_alert(ids: tuple[str, ...], *, failed: bool, as_json: bool) -> None:
    """Queue failed deliveries anew, with a fresh count of attempts.

    The receiver sees the same idempotency key. One of a group takes the whole group with it.

    \b
    Examples: rat alert retry --failed
              rat alert retry 0c1d4a5e-5b0e-5b52-9a54-5d2c0a8e7f01
    """
    if failed == bool(ids):
        message = "name deliveries, or say --failed; not both"
        raise click.UsageError(message)
    from rat_assets.commands import delivering

    delivering.retry(ids, failed=failed, as_json=as_json)


# All at once.


@rat.command()
def demo() -> int:
    """Play a year of New York's flights, files to gold.

    Then a broken file arrives, and the tests stop it. Playing it again changes nothing.
    """
    from rat_assets.commands import demo as playing

    return playing.play()


@rat.command()
@click.option(
    "--port",
    default=3000,
    show_default=True,
    type=click.IntRange(1, 65535),
    help="Or the next free one.",
)
def dev(port: int) -> int:
    """Open the UI; everything is switched on.

    Dagster's web server and daemon, with sensors and schedules. Ctrl-C ends it.
    """
    from rat_assets.commands import dev as developing

    return developing.serve(port)
