"""What happened: the newest runs as a list, or one of them in full."""

import json
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import click
from sqlalchemy import Select, String, cast, select
from sqlalchemy.orm import Session

from rat_assets.commands.display import (
    count,
    duration,
    moment,
    print_json,
    print_table,
    size,
)
from rat_assets.commands.opening import open_platform
from rat_resources.errors import NotFoundError
from rat_resources.metadata.landing import LandingFile, RunFile
from rat_resources.metadata.pipelines import Pipeline
from rat_resources.metadata.quality import QualityResult, QualityTest
from rat_resources.metadata.runs import Run, RunInput

SHORTEST_ID = 8
NEWEST_LINES = 50
MOST_MATCHES = 5

Facts = dict[str, Any]


def list_runs(limit: int, *, as_json: bool) -> None:
    """Print the newest runs."""
    with open_platform().metadata.transaction() as tx:
        found = newest(tx, limit)
    if as_json:
        print_json([summary(run, pipeline) for run, pipeline in found])
        return
    if not found:
        click.echo("nothing has run yet; `rat run` does")
        return
    print_table(
        ("run", "table", "status", "trigger", "started", "took", "rows written", "why"),
        [
            (
                str(run.id)[:SHORTEST_ID],
                name_of(pipeline),
                status_of(run),
                run.trigger,
                moment(run.started_at or run.created_at),
                duration(run.duration_ms),
                count(run.rows_written),
                first_line(run.error),
            )
            for run, pipeline in found
        ],
    )


def newest(tx: Session, limit: int) -> Sequence[tuple[Run, Pipeline]]:
    """The newest runs, the very newest first."""
    query = (
        select(Run, Pipeline)
        .join(Pipeline, Pipeline.id == Run.pipeline_id)
        .order_by(Run.created_at.desc())
        .limit(limit)
    )
    return pairs(tx, query)


def show_run(typed: str, *, as_json: bool) -> None:
    """Print everything about a run; of a Dagster run, about each of its runs."""
    with open_platform().metadata.transaction() as tx:
        shown = [whole_run(tx, run, pipeline) for run, pipeline in find(tx, typed)]
    if as_json:
        print_json(shown[0] if len(shown) == 1 else shown)
        return
    for position, facts in enumerate(shown):
        if position:
            click.echo()
        print_run(facts)


def find(tx: Session, typed: str) -> Sequence[tuple[Run, Pipeline]]:
    """The run that somebody means, or those of one Dagster run; NotFoundError when it is not clear."""
    joined = select(Run, Pipeline).join(Pipeline, Pipeline.id == Run.pipeline_id)
    starts = typed.lower()
    if not starts or set(starts) - set("0123456789abcdef-"):
        message = f"{typed} is no id of a run"
        raise NotFoundError(message, fix="see `rat runs`")
    inside = joined.where(Run.dagster_run_id.startswith(starts, autoescape=True))
    matching = joined.where(cast(Run.id, String).startswith(starts, autoescape=True))
    found = pairs(tx, matching.limit(MOST_MATCHES))
    if not found:
        found = pairs(tx, inside.order_by(Run.created_at))
        if len({run.dagster_run_id for run, _ in found}) == 1:
            return found
    if not found:
        message = f"no run's id starts with {typed}"
        raise NotFoundError(message, fix="see `rat runs`")
    if len(found) > 1:
        ids = ", ".join(str(run.id) for run, _ in found)
        message = f"{typed} is the start of more than one run's id"
        raise NotFoundError(message, fix=f"write more of it: {ids}")
    return found


def pairs(tx: Session, query: Select[Run, Pipeline]) -> list[tuple[Run, Pipeline]]:
    """The runs that *query* finds, each with its pipeline."""
    return [(run, pipeline) for run, pipeline in tx.execute(query)]


def summary(run: Run, pipeline: Pipeline) -> Facts:
    """A run as one object of a list."""
    return {
        "run_id": str(run.id),
        "table": name_of(pipeline),
        "status": run.status,
        "unchanged": run.unchanged,
        "trigger": run.trigger,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "duration_ms": run.duration_ms,
        "rows_written": run.rows_written,
        "rows_total": run.rows_total,
        "snapshot_id": None if run.snapshot_id is None else str(run.snapshot_id),
        "dagster_run_id": run.dagster_run_id,
        "attempt": run.attempt,
        "error": run.error,
    }


def whole_run(tx: Session, run: Run, pipeline: Pipeline) -> Facts:
    """Everything that is known about a run."""
    return summary(run, pipeline) | {
        "branch": run.branch,
        "base_commit": run.base_commit,
        "commit": run.commit,
        "phases": run.phase_profiles or [],
        "changes": run.changes,
        "tests": list(tests_of(tx, run.id)),
        "files": list(files_of(tx, run.id)),
        "inputs": list(inputs_of(tx, run.id)),
        "log": run.logs or [],
    }


def tests_of(tx: Session, run_id: uuid.UUID) -> Iterable[Facts]:
    """What each test said in a run."""
    results = tx.execute(
        select(QualityTest, QualityResult)
        .join(QualityResult, QualityResult.test_id == QualityTest.id)
        .where(QualityResult.run_id == run_id)
        .order_by(QualityTest.name)
    )
    for test, result in results:
        yield {
            "test": test.name,
            "severity": test.severity,
            "status": result.status,
            "offenders": result.value,
            "duration_ms": result.duration_ms,
            "message": result.message,
            "sample": result.sample or [],
        }


def files_of(tx: Session, run_id: uuid.UUID) -> Iterable[Facts]:
    """The landing files that a run read."""
    files = tx.scalars(
        select(LandingFile)
        .join(RunFile, RunFile.file_id == LandingFile.id)
        .where(RunFile.run_id == run_id)
        .order_by(LandingFile.s3_path)
    )
    for file in files:
        yield {"file": file.s3_path, "size": file.size_bytes, "version": file.version}


def inputs_of(tx: Session, run_id: uuid.UUID) -> Iterable[Facts]:
    """The snapshots that a run read."""
    pins = tx.scalars(
        select(RunInput)
        .where(RunInput.run_id == run_id)
        .order_by(RunInput.namespace, RunInput.layer, RunInput.name)
    )
    for pin in pins:
        snapshot = None if pin.snapshot_id is None else str(pin.snapshot_id)
        yield {
            "table": f"{pin.namespace}.{pin.layer}.{pin.name}",
            "snapshot_id": snapshot,
            "metadata_location": pin.metadata_location,
        }


def print_run(facts: Facts) -> None:
    """Print a run for people."""
    status = "unchanged" if facts["unchanged"] else facts["status"]
    click.echo(f"{facts['table']}: {status}, {duration(facts['duration_ms']) or '-'}")
    for word in (
        *("run_id", "dagster_run_id", "attempt", "trigger", "branch", "base_commit"),
        *("commit", "snapshot_id", "started_at", "finished_at"),
        *("rows_written", "rows_total", "error"),
    ):
        if facts[word] is not None:
            value = facts[word]
            shown = moment(value) if word.endswith("_at") else value
            click.echo(f"  {word.replace('_', ' '):14} {shown}")
    print_part(
        ("phase", "took", "rows", "bytes", "peak memory"),
        [
            (
                each["phase"],
                duration(each["ms"]),
                count(each["rows"]),
                size(each["bytes"]),
                size(each["peak_memory"]),
            )
            for each in facts["phases"]
        ],
    )
    print_part(
        ("test", "severity", "status", "offenders", "took", "message"),
        [
            (
                each["test"],
                each["severity"],
                each["status"],
                each["offenders"],
                duration(each["duration_ms"]),
                first_line(each["message"]),
            )
            for each in facts["tests"]
        ],
    )
    for each in facts["tests"]:
        print_sample(each)
    if facts["changes"]:
        print_changes(facts)
    print_part(
        ("file", "size"),
        [(each["file"], size(each["size"])) for each in facts["files"]],
    )
    print_part(
        ("input", "snapshot"),
        [(each["table"], each["snapshot_id"]) for each in facts["inputs"]],
    )
    print_log(facts["log"])


def print_changes(facts: Facts) -> None:
    """Print what a run changed, or would have changed, of what stood on main."""
    from rat_assets.changes import Changes  # it loads the lake

    changes = Changes.from_json(facts["changes"])
    published = facts["status"] == "success"
    title = "changed on main" if published else "not published: would have changed"
    print_part(
        (title, "", "of the rows before"),
        [(each["what"], each["figure"], each["share"]) for each in changes.lines],
    )


def print_part(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table, if there is anything in it, with some air above."""
    if rows:
        click.echo()
        print_table(columns, rows)


def print_sample(test: Facts) -> None:
    """Print the first offending rows of a test."""
    if test["status"] == "passed" or not test["sample"]:
        return
    click.echo(f"\n{test['test']}: the first offending rows")
    for row in test["sample"][:5]:
        click.echo(f"  {json.dumps(row, ensure_ascii=False)}")


def print_log(lines: Sequence[Facts]) -> None:
    """Print the newest lines of a log."""
    told = [line for line in lines if line["level"] != "debug"][-NEWEST_LINES:]
    if told:
        click.echo()
    for line in told:
        time = line["timestamp"][11:23]
        click.echo(f"{time} {line['level']:7} {line['message']}")


def name_of(pipeline: Pipeline) -> str:
    """The full name of a pipeline."""
    return f"{pipeline.namespace}.{pipeline.layer}.{pipeline.name}"


def status_of(run: Run) -> str:
    """A run's status, and whether it had nothing new."""
    return "unchanged" if run.unchanged else run.status


def first_line(text: str | None) -> str:
    """The first line of a text, if there is any."""
    return (text or "").partition("\n")[0]
