"""Authoring: what a draft compiles to, what it returns, and what tests say, with nothing written."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import click

from rat_assets import journal, runner
from rat_assets.commands.display import (
    count,
    duration,
    plain,
    plural,
    print_json,
    table_lines,
)
from rat_assets.commands.opening import open_platform
from rat_assets.drafts import Draft, find_draft
from rat_assets.journal import Progress
from rat_assets.location import find_assets
from rat_assets.quality import TestResult
from rat_assets.rehearsal import (
    Ask,
    Limits,
    Preview,
    compile_draft,
    other_ways,
    verdicts_on_main,
)
from rat_assets.rehearsal import preview as preview_draft
from rat_assets.runner import RunAsk
from rat_resources import hand_written
from rat_resources.errors import NotFoundError, QueryError
from rat_resources.lake.types import type_words
from rat_resources.metadata.quality import Verdict
from rat_resources.names import TableName
from rat_resources.platform import Platform
from rat_resources.specs import SCHEMA_CHANGE

FAILED = 1
OFFENDERS_SHOWN = 5
MARKS = {
    Verdict.PASSED: "✔",
    Verdict.WARNED: "!",
    Verdict.FAILED: "✘",
    Verdict.ERROR: "✘",
}


def compile_(word: str, *, full_refresh: bool) -> None:
    """Print the SQL of a draft, and beside it what a reader should know."""
    whole = open_platform()
    draft = find_draft(whole, word)
    refuse_script(draft, word)
    compiled = compile_draft(whole, draft, ask=Ask(full_refresh=full_refresh))
    tell(compiled.notes)
    click.echo(compiled.sql.strip("\n"))


def refuse_script(draft: Draft, word: str) -> None:
    """QueryError when there is no SQL to print."""
    if draft.spec.type == "sql":
        return
    reads = [
        *map(str, draft.spec.refs),
        *(f"landing zone {zone.name}" for zone in draft.spec.zones),
    ]
    by_hand = draft.spec.hand_written
    message = f"{by_hand or draft.code_path} is Python and has no SQL" + (
        f"; it reads {', '.join(reads)}" if reads else ""
    )
    fix = other_ways(draft) if by_hand else f"see what it returns: rat preview {word}"
    raise QueryError(message, fix=fix)


def preview(word: str, *, ask: Ask, limits: Limits, as_json: bool) -> int:
    """Try a draft and show what came of it; the exit code."""
    seen = look(open_platform(), word, ask=ask, limits=limits)
    tell(seen.notes)
    if as_json:
        print_json(as_object(seen))
    else:
        click.echo("\n".join(describe(seen)))
    return 0 if seen.would_publish else FAILED


def look(whole: Platform, word: str, *, ask: Ask, limits: Limits) -> Preview:
    """What came of trying a draft."""
    draft = find_draft(whole, word)
    with listening(is_script=draft.spec.type == "python"):
        return preview_draft(whole, draft, ask=ask, limits=limits)


@contextmanager
def listening(*, is_script: bool) -> Iterator[None]:
    """Say on stderr what the draft says meanwhile."""

    def hear(progress: Progress) -> None:
        is_heard = progress.level != "info" or is_script
        if progress.state == "said" and progress.phase == "write" and is_heard:
            click.echo(progress.message, err=True)

    journal.listeners.append(hear)
    try:
        yield
    finally:
        journal.listeners.remove(hear)


def test(
    selection: tuple[str, ...], *, everything: bool, timeout: float, as_json: bool
) -> int:
    """Run the published tests of a selection on main; the exit code."""
    whole = open_platform()
    tables = choose(whole, selection, everything=everything)
    tested: dict[TableName, Sequence[TestResult]] = {}
    for table in tables:
        results = tested[table] = verdicts_on_main(whole, table, seconds=timeout)
        if not as_json:
            click.echo("\n".join([str(table), *describe_tests(results)]))
    every = [result for results in tested.values() for result in results]
    blocks = [result for result in every if result.blocks]
    if as_json:
        print_json(
            {
                "passed": not blocks,
                "tables": {
                    str(table): [test_object(each) for each in results]
                    for table, results in tested.items()
                },
            }
        )
    else:
        click.echo(
            f"\n{plural(len(every), 'test')} of {plural(len(tested), 'pipeline')}, "
            f"{len(blocks)} failed"
        )
    return FAILED if blocks else 0


def choose(
    whole: Platform, selection: tuple[str, ...], *, everything: bool
) -> list[TableName]:
    """The pipelines, and the assets written by hand, whose tests are asked for."""
    written = find_assets(whole.settings.project)
    ask = RunAsk(selection, everything=everything)
    tables, _ = runner.choose(whole, ask, written=written)
    with whole.metadata.transaction() as tx:
        never = {each.table for each in written} - hand_written.current(tx)
    for table in never:
        if str(table) in selection:
            message = (
                f"{table} is written by hand and has never run, so it has no table"
            )
            raise NotFoundError(message, fix=f"run it first: rat run {table}")
    return [table for table in tables if table not in never]


def tell(notes: Iterable[str]) -> None:
    """Say something beside the result."""
    for note in notes:
        click.echo(f"note: {note}", err=True)


# For people.


def describe(seen: Preview) -> Iterator[str]:
    """A preview, line by line."""
    yield f"{seen.table}, from {seen.place}, at main {seen.commit[:12]}"
    yield ""
    yield from table_lines(
        ["column", "type"],
        [(column.name, type_words(column.type)) for column in seen.columns],
    )
    yield ""
    if seen.sample.rows:
        yield from table_lines(seen.sample.columns, seen.sample.rows)
    yield f"{plural(seen.sample.count, 'row')} returned, {len(seen.sample.rows):,} shown"
    yield ""
    yield from describe_change(seen)
    yield ""
    yield from describe_tests(seen.results)
    phases = (f"{each['phase']} {duration(each['ms'])}" for each in seen.phases)
    yield f"{', '.join(phases)}; nothing was written"
    blocking = sum(result.blocks for result in seen.results)
    yield (
        f"✘ {plural(blocking, 'test')} would stop the publication"
        if blocking
        else "✔ it would be published"
    )


def describe_change(seen: Preview) -> Iterator[str]:
    """What would become of the table on main."""
    if seen.is_view:
        yield "a view: its query stands in wherever it is read"
    elif seen.rows_before is None:
        yield f"on main: no table yet; it would have {plural(seen.rows_after, 'row')}"
    else:
        yield (
            f"on main: {plural(seen.rows_before, 'row')} → {count(seen.rows_after)}"
            f" ({count(seen.inserted)} inserted, {count(seen.updated)} updated, "
            f"{count(seen.deleted)} deleted)"
        )
    if any(each.test.guard == SCHEMA_CHANGE for each in seen.results):
        return  # the check has them, with who reads them
    for change in seen.schema_changes:
        yield f"  column {change}"


def describe_tests(results: Iterable[TestResult]) -> Iterator[str]:
    """Verdicts with the first offenders, line by line."""
    listed = list(results)
    if not listed:
        yield "  no tests"
    for each in listed:
        yield f"  {MARKS[each.verdict]} {each.summary} ({duration(each.duration_ms)})"
        if each.sample and not each.test.guard:
            yield from describe_offenders(each)
        if each.offenders and each.test.remediation:
            yield f"      fix: {each.test.remediation}"


def describe_offenders(result: TestResult) -> Iterator[str]:
    """The first offenders of a test."""
    rows = result.sample[:OFFENDERS_SHOWN]
    columns = list(rows[0])
    for line in table_lines(columns, [list(row.values()) for row in rows]):
        yield f"      {line}"
    more = (result.offenders or 0) - len(rows)
    if more > 0:
        yield f"      and {plural(more, 'more row')}"


# For programs.


def as_object(seen: Preview) -> dict[str, object]:
    """A preview as JSON has it."""
    return {
        "table": str(seen.table),
        "place": seen.place,
        "commit": seen.commit,
        "would_publish": seen.would_publish,
        "columns": [
            {"name": column.name, "type": type_words(column.type)}
            for column in seen.columns
        ],
        "rows": plain(seen.sample.objects),
        "rows_returned": seen.sample.count,
        "is_view": seen.is_view,
        "rows_before": seen.rows_before,
        "rows_after": seen.rows_after,
        "inserted": seen.inserted,
        "updated": seen.updated,
        "deleted": seen.deleted,
        "schema_changes": [vars(change) for change in seen.schema_changes],
        "tests": [test_object(each) for each in seen.results],
        "files": list(seen.files),
        "phases": [dict(each) for each in seen.phases],
        "notes": list(seen.notes),
    }


def test_object(result: TestResult) -> dict[str, object]:
    """A verdict as JSON has it."""
    return {
        "name": result.test.name,
        "severity": result.test.severity,
        "verdict": str(result.verdict),
        "offenders": result.offenders,
        "sample": list(result.sample),
        "duration_ms": result.duration_ms,
        "message": result.message,
    }
