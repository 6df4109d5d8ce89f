"""Reports: the charts of tables and of the platform, as files or as numbers."""

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from rat_assets.commands.display import plural, print_table
from rat_assets.commands.opening import open_platform
from rat_assets.commands.querying import find_place, inputs_at
from rat_assets.reports.answers import Answer, answer, read_report
from rat_assets.reports.pictures import as_file
from rat_assets.reports.platform import REPORTS
from rat_assets.reports.points import Points, numbers, read_charts
from rat_resources import releases
from rat_resources.errors import NotFoundError, QueryError, StoreError
from rat_resources.lake.refs import MAIN
from rat_resources.lake.sql import quote
from rat_resources.names import nearest
from rat_resources.platform import Platform
from rat_resources.specs import PipelineSpec

ROWS = 20
PICTURES = "--out FILE.png writes the pictures"


def list_reports() -> None:
    """Print every report and what it shows."""
    tables = charted_tables(open_platform())
    rows = [
        (name, chart.kind, chart.title)
        for name, spec in tables.items()
        for chart in spec.config.charts
    ]
    rows += [
        (report.name, chart.kind, chart.title)
        for report in REPORTS.values()
        for part in report.parts
        for chart in part.charts
    ]
    print_table(("report", "kind", "title"), rows)


def draw(name: str, *, out: Path | None, ref: str) -> None:
    """Write the pictures of a report to *out*, or print their numbers."""
    if out is not None:
        refuse_other_format(out)
    whole = open_platform()
    if name in REPORTS:
        refuse_ref(name, ref)
        if out is None:
            print_answers(answer(whole, REPORTS[name]))
            return
    charts = find_report(whole, name, ref=ref)
    if out is None:
        print_numbers(charts)
        return
    refuse_problems(charts)
    source = f"report {name}" if name in REPORTS else name
    at = "" if ref == MAIN else f" at {ref}"
    for path, points in zip(numbered(out, count=len(charts)), charts, strict=True):
        write_whole(path, as_file(points, source=f"{source}{at}"))
        click.echo(f"{path}: {points.chart.title}")


def find_report(whole: Platform, name: str, *, ref: str) -> tuple[Points, ...]:
    """What the charts of a report show; NotFoundError with the name that was probably meant."""
    if name in REPORTS:
        return read_report(whole, REPORTS[name])
    tables = charted_tables(whole)
    if name not in tables:
        raise unknown(whole, name, tables=tables)
    spec = tables[name]
    inputs = inputs_at(whole, find_place(whole, ref))
    inputs.resolve([spec.table])
    with whole.lake.connect() as connection:
        inputs.register(connection)
        rows = quote(str(spec.table))
        return read_charts(connection, spec.config.charts, relation=rows)


def charted_tables(whole: Platform) -> dict[str, PipelineSpec]:
    """The pipelines of the current release that have charts, by name."""
    with whole.metadata.transaction() as tx:
        found = releases.load(tx, release=releases.current(tx) or 0)
    charted = (each.spec for each in found if each.spec.config.charts)
    return {str(spec.table): spec for spec in sorted(charted, key=lambda s: s.table)}


def unknown(
    whole: Platform, name: str, *, tables: Mapping[str, PipelineSpec]
) -> NotFoundError:
    """The error of a name that is no report."""
    with whole.metadata.transaction() as tx:
        found = releases.load(tx, release=releases.current(tx) or 0)
    if name in {str(each.spec.table) for each in found}:
        fix = "add charts to its config.yaml and publish it"
        return NotFoundError(f"{name} has no charts", fix=fix)
    short = {table.partition(".")[2]: table for table in tables}
    guess = nearest(name, [*tables, *REPORTS, *short])
    fix = f"did you mean {short.get(guess, guess)}?" if guess else "see `rat report`"
    return NotFoundError(f"no report is called {name}", fix=fix)


def refuse_ref(name: str, ref: str) -> None:
    """QueryError when a report of the platform is asked for at another place than now."""
    if ref != MAIN:
        message = f"{name} tells what Postgres knows now, at no other place"
        raise QueryError(message, fix="leave out --ref")


# What is printed and written.


def print_answers(answers: Sequence[Answer]) -> None:
    """Print the rows that a report of the platform shows, and that it has pictures."""
    for number, found in enumerate(answers):
        if number:
            click.echo()
        click.echo(found.part.title)
        rows = [] if found.is_empty else found.table
        if not rows:
            click.echo(f"  {found.part.nothing}")
            continue
        print_table(list(rows[0]), [list(row.values()) for row in rows[:ROWS]])
        if len(rows) > ROWS:
            click.echo(f"{plural(len(rows) - ROWS, 'row')} more")
    click.echo(PICTURES, err=True)


def print_numbers(charts: tuple[Points, ...]) -> None:
    """Print what each chart shows, and that it could be a picture."""
    for number, points in enumerate(charts):
        if number:
            click.echo()
        click.echo(points.chart.title)
        rows = numbers(points, limit=ROWS)
        if points.problem or not rows:
            click.echo(f"  {points.problem or 'no rows yet'}")
            continue
        print_table(list(rows[0]), [list(row.values()) for row in rows])
        left = len(points.points) - len(rows)
        notes = [f"{plural(left, 'row')} more"] if left > 0 else []
        if said := "; ".join([*notes, *points.notes]):
            click.echo(said)
    click.echo(PICTURES, err=True)


def refuse_problems(charts: tuple[Points, ...]) -> None:
    """QueryError when a chart cannot be drawn, before any file is written."""
    problems = [points.problem for points in charts if points.problem]
    if problems:
        raise QueryError("; ".join(problems))


def refuse_other_format(out: Path) -> None:
    """QueryError when a name promises another format than the one there is."""
    if out.suffix.lower() != ".png":
        message = f"{out} does not end in .png, and pictures are PNG"
        raise QueryError(
            message, fix=f"--out {out.parent / (out.stem or 'report')}.png"
        )


def numbered(out: Path, *, count: int) -> list[Path]:
    """A file a picture: FILE.png, FILE-2.png and so on."""
    rest = [out.with_name(f"{out.stem}-{n}{out.suffix}") for n in range(2, count + 1)]
    return [out, *rest][:count]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file: all of it, or nothing."""
    draft = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex}.tmp")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror or error}"
        raise StoreError(
            message, fix="name a file in a folder that is there"
        ) from error
    finally:
        draft.unlink(missing_ok=True)
