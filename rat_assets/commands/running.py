"""Running by hand: the phases as they come, and what became of every table."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import TextIO

import dagster as dg

from rat_assets import journal, runner
from rat_assets.actions import user
from rat_assets.commands.display import duration, plural, print_json
from rat_assets.commands.opening import open_platform
from rat_assets.journal import Progress
from rat_assets.runner import RunAsk, RunReport, TableReport
from rat_resources.instance import open_instance
from rat_resources.names import TableName
from rat_resources.platform import Platform

FAILED = 1
MARKS = {
    "published": "✔",
    "unchanged": "✔",
    "failed": "✘",
    "cancelled": "✘",
    "skipped": "·",
}


def run(
    selection: tuple[str, ...],
    *,
    everything: bool,
    downstream: bool,
    upstream: bool,
    full_refresh: bool,
    accept_changes: bool,
    as_json: bool,
) -> int:
    """Run a selection; the exit code."""
    ask = RunAsk(
        selection=selection,
        everything=everything,
        downstream=downstream,
        upstream=upstream,
        full_refresh=full_refresh,
        accepted_by=user() if accept_changes else "",
    )
    whole = open_platform()
    with terminal() as screen, streaming(screen, quiet=as_json) as stream:
        report, stopped = run_ask(whole, ask)
        stream.finish(report)
    if as_json:
        print_json(as_object(report))
    if stopped:
        raise KeyboardInterrupt
    return 0 if report.succeeded else FAILED


def run_ask(whole: Platform, ask: RunAsk) -> tuple[RunReport, bool]:
    """Run what is asked for in this process; and whether somebody stopped it."""
    with open_instance() as instance:
        report = runner.run(whole, ask, instance=instance)
        dagster_run = instance.get_run_by_id(report.dagster_run_id)
    canceled = dg.DagsterRunStatus.CANCELED
    return report, dagster_run is not None and dagster_run.status == canceled


@contextmanager
def terminal() -> Iterator[TextIO]:
    """The terminal, or the pipe, all to ourselves: what Dagster and its children say goes nowhere.

    Inside a step 1 and 2 are the compute log anyway, and processes that Dagster starts would print
    tracebacks of their own on Ctrl-C.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    screen = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        with screen:
            yield screen
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, ours in enumerate(kept, start=1):
            os.dup2(ours, descriptor)
            os.close(ours)
        os.close(nowhere)


@dataclass
class Stream:
    """Prints the phases of a run as they come: a line grows for each pipeline."""

    screen: TextIO
    quiet: bool = False
    open_line: TableName | None = None
    told: list[str] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def hear(self, progress: Progress) -> None:
        """Take a piece of news."""
        if self.quiet:
            return
        with self.lock:
            if progress.state == "begun":
                self.begin(progress)
            elif progress.state == "said":
                self.keep(progress)
            else:
                self.write(
                    f"  {progress.phase} {duration(progress.ms)}{mark(progress)}"
                )

    def begin(self, progress: Progress) -> None:
        """Begin the line of a pipeline, or of one more attempt at it."""
        if progress.phase != journal.PHASES[0] and self.open_line == progress.table:
            return
        self.end_line()
        self.open_line = progress.table
        self.write(str(progress.table))

    def keep(self, progress: Progress) -> None:
        """Keep what deserves a line of its own until the pipeline's line ends."""
        # What stopped it stands in its line at the end.
        if progress.level == "warning":
            first, *_ = progress.message.splitlines()
            self.told.append(f"    {progress.level}: {first}")
        elif self.open_line is None and progress.message.startswith("waiting"):
            self.write(f"{progress.table}  {progress.message}\n")

    def end_line(self) -> None:
        """End the line, and print what was told meanwhile."""
        if self.open_line is not None:
            self.write("\n")
            self.open_line = None
        for line in self.told:
            self.write(f"{line}\n")
        self.told.clear()

    def finish(self, report: RunReport) -> None:
        """Say what became of every table."""
        if self.quiet:
            return
        self.end_line()
        self.write("\n")
        for each in report.tables:
            self.write(f"{describe(each)}\n")

    def write(self, text: str) -> None:
        """Write at once."""
        self.screen.write(text)
        self.screen.flush()


@contextmanager
def streaming(screen: TextIO, *, quiet: bool = False) -> Iterator[Stream]:
    """Show what runs in this process say, on *screen*."""
    stream = Stream(screen, quiet=quiet)
    journal.listeners.append(stream.hear)
    try:
        yield stream
    finally:
        journal.listeners.remove(stream.hear)


def mark(progress: Progress) -> str:
    """How the line of a pipeline goes on after a phase."""
    if progress.state == "failed":
        return "  ✘"
    return "  ✔" if progress.phase == journal.PHASES[-1] else ""


def describe(report: TableReport) -> str:
    """What became of a table, in a line."""
    parts = [f"{MARKS[report.status]} {report.table}: {report.status}"]
    if report.rows_total is not None:
        parts.append(f"{plural(report.rows_total, 'row')}{written(report)}")
    parts += [
        f"{plural(number, 'test')} {word}"
        for number, word in (
            (report.passed, "passed"),
            (report.warned, "warned"),
            (report.failed, "failed"),
        )
        if number
    ]
    if report.ms is not None:
        parts.append(duration(report.ms))
    line = ", ".join(parts)
    if report.error:
        run_id = str(report.run_id)[:8]
        line += f"\n    {report.error.strip()}\n    see `rat runs {run_id}`"
    elif report.status == "skipped":
        line += ": a table that it reads was not published, or the run was stopped"
    return line


def written(report: TableReport) -> str:
    """What the run changed, as far as it is known."""
    changes = report.changes
    if changes is None:
        return ""
    if changes.changed is None and not changes.is_first:
        return " (all written anew)"
    return f" ({changes.summary})" if changes.summary else ""


def as_object(report: RunReport) -> dict[str, object]:
    """A report as JSON has it."""
    return {
        "dagster_run_id": report.dagster_run_id,
        "succeeded": report.succeeded,
        "tables": [
            vars(each)
            | {
                "table": str(each.table),
                "snapshot_id": str(each.snapshot_id) if each.snapshot_id else None,
                "changes": each.changes and each.changes.to_json(),
            }
            for each in report.tables
        ],
    }
