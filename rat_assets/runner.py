"""Running pipelines in this process, as one Dagster run that the UI shows like any other.

`rat run` and the job `run` call this; sensors and the UI launch the job `pipelines` instead.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.definitions.repository_definition.valid_definitions import (
    SINGLETON_REPOSITORY_NAME,
)
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster_postgres.utils import DagsterPostgresException
from sqlalchemy import select as sql_select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from rat_assets.changes import Changes
from rat_assets.definitions import build_definitions, report_definitions
from rat_assets.hand_written import LakeAsset
from rat_assets.location import NAME, find_assets
from rat_assets.reports.star import star_assets
from rat_assets.selection import select
from rat_assets.steps import asset_key
from rat_resources import graph, releases
from rat_resources.errors import MetadataError
from rat_resources.lake.complaints import first_line
from rat_resources.metadata.pipelines import Pipeline
from rat_resources.metadata.quality import QualityResult, Verdict
from rat_resources.metadata.runs import Run
from rat_resources.mirror import log
from rat_resources.names import PLATFORM, TableName
from rat_resources.platform import Platform
from rat_resources.reconciliation import reconcile
from rat_resources.runs import (
    ACCEPT_TAG,
    FULL_REFRESH_TAG,
    ONLY_CHANGED_TAG,
    RELEASE_TAG,
    TRIGGER_TAG,
    WORKER_TAG,
)
from rat_resources.workers import this_worker
from rat_sensors.jobs import PIPELINES, REPORTS

Status = Literal["published", "unchanged", "failed", "cancelled", "skipped"]


@dataclass(frozen=True)
class RunAsk:
    """What a person asks to be run."""

    selection: tuple[str, ...] = ()
    everything: bool = False
    downstream: bool = False
    upstream: bool = False
    full_refresh: bool = False
    only_changed: bool = False
    accepted_by: str = ""  # who lets the changes pass the guards, this once
    trigger: str = "manual"

    @property
    def tags(self) -> dict[str, str]:
        """The ask as the tags of a Dagster run."""
        tags = {TRIGGER_TAG: self.trigger, WORKER_TAG: this_worker()}
        if self.full_refresh:
            tags[FULL_REFRESH_TAG] = "true"
        if self.accepted_by:
            tags[ACCEPT_TAG] = self.accepted_by
        if self.only_changed:
            tags[ONLY_CHANGED_TAG] = "true"
        return tags


@dataclass(frozen=True)
class TableReport:
    """What became of one pipeline that was asked for."""

    table: TableName
    status: Status
    run_id: uuid.UUID | None = None
    rows_total: int | None = None
    rows_written: int | None = None
    passed: int = 0
    warned: int = 0
    failed: int = 0
    ms: int | None = None
    snapshot_id: int | None = None
    error: str | None = None
    changes: Changes | None = None


@dataclass(frozen=True)
class RunReport:
    """What became of everything that was asked for."""

    dagster_run_id: str
    tables: tuple[TableReport, ...]

    @property
    def succeeded(self) -> bool:
        """Whether everything was published, or had nothing new."""
        return all(each.status in ("published", "unchanged") for each in self.tables)


def run(
    whole: Platform, ask: RunAsk, *, instance: dg.DagsterInstance | None = None
) -> RunReport:
    """Run what is asked for, in dependency order, and wait for the end."""
    instance = instance or dg.DagsterInstance.get()
    reconcile(whole, instance)
    written = [*find_assets(whole.settings.project), *ours(ask)]
    chosen, release = choose(whole, ask, written=written)
    definitions = build_definitions(
        whole, release=release, only=chosen, written=written
    )
    dagster_run_id = execute(
        definitions,
        chosen,
        instance=instance,
        tags=ask.tags | {RELEASE_TAG: str(release)},
    )
    log.try_to_catch_up(whole.metadata)
    with whole.metadata.transaction() as tx:
        return RunReport(
            dagster_run_id, tuple(report(tx, dagster_run_id, tables=chosen))
        )


def ours(ask: RunAsk) -> Sequence[LakeAsset]:
    """The tables that RAT brings along, where they are asked for by name."""
    if not any(word.partition(".")[0] == PLATFORM for word in ask.selection):
        return ()
    return star_assets()


def choose(
    whole: Platform, ask: RunAsk, *, written: Sequence[LakeAsset] = ()
) -> tuple[list[TableName], int]:
    """The pipelines that are asked for, and the release that they are of."""
    with whole.metadata.transaction() as tx:
        release = releases.current(tx) or 0
        reads = {
            each.table: each.refs
            for each in graph.outlines(tx, release=release)
            if not each.hand_written
        } | {each.table: each.parsed.spec.refs for each in written}
    return select(
        reads,
        ask.selection,
        everything=ask.everything,
        downstream=ask.downstream,
        upstream=ask.upstream,
    ), release


def execute(
    definitions: dg.Definitions,
    tables: Iterable[TableName],
    *,
    instance: dg.DagsterInstance,
    tags: Mapping[str, str],
) -> str:
    """Execute the pipelines of *tables* as one Dagster run in this process; its id."""
    return execute_job(
        definitions.resolve_job_def(PIPELINES),
        instance=instance,
        tags=tags,
        selection=frozenset(asset_key(table) for table in tables),
    )


def draw_reports(instance: dg.DagsterInstance) -> bool:
    """Draw the platform's reports anew, in this process; whether all could be drawn."""
    job = report_definitions().resolve_job_def(REPORTS)
    run_id = execute_job(job, instance=instance, tags={WORKER_TAG: this_worker()})
    run = instance.get_run_by_id(run_id)
    return run is not None and run.is_success


def execute_job(
    job: dg.JobDefinition,
    *,
    instance: dg.DagsterInstance,
    tags: Mapping[str, str],
    selection: frozenset[dg.AssetKey] | None = None,
) -> str:
    """Execute a job as one Dagster run in this process; its id."""
    dagster_run = instance.create_run_for_job(
        job_def=job,
        tags=dict(tags),
        asset_selection=selection,
        remote_job_origin=origin_of(job.name),
        # Dagster would repeat its whole event log on the terminal.
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
    try:
        execute_run(InMemoryJob(job), dagster_run, instance, raise_on_error=False)
    except (DagsterPostgresException, OperationalError) as error:
        # Dagster's log could not be written, without which it ends nothing.
        message = f"Postgres went away in the middle of the run: {first_line(error)}"
        fix = "once it is back, `rat reconcile` ends the run; then run it again"
        raise MetadataError(message, fix=fix) from error
    return dagster_run.run_id


def origin_of(job_name: str) -> RemoteJobOrigin:
    """Where the code location has a job: the UI's timeline shows no run that doesn't say so."""
    place = RegisteredCodeLocationOrigin(location_name=NAME)
    return RemoteJobOrigin(
        RemoteRepositoryOrigin(place, SINGLETON_REPOSITORY_NAME), job_name
    )


def report(
    tx: Session, dagster_run_id: str, *, tables: Iterable[TableName]
) -> Iterable[TableReport]:
    """What became of each of *tables* in a Dagster run."""
    rows = tx.execute(
        sql_select(Run, Pipeline)
        .join(Pipeline, Pipeline.id == Run.pipeline_id)
        .where(Run.dagster_run_id == dagster_run_id)
        .order_by(Run.attempt)
    )
    # The last attempt is the one that counts.
    last = {TableName(each.namespace, each.layer, each.name): run for run, each in rows}
    for table in tables:
        yield (
            report_run(tx, table, last[table])
            if table in last
            else TableReport(table, "skipped")
        )


def report_run(tx: Session, table: TableName, run: Run) -> TableReport:
    """What became of one run."""
    verdicts = list(
        tx.scalars(
            sql_select(QualityResult.status).where(QualityResult.run_id == run.id)
        )
    )
    statuses: dict[str, Status] = {
        "success": "unchanged" if run.unchanged else "published",
        "cancelled": "cancelled",
    }
    return TableReport(
        table,
        statuses.get(run.status, "failed"),
        run_id=run.id,
        rows_total=run.rows_total,
        rows_written=run.rows_written,
        passed=verdicts.count(Verdict.PASSED),
        warned=verdicts.count(Verdict.WARNED),
        failed=verdicts.count(Verdict.FAILED) + verdicts.count(Verdict.ERROR),
        ms=run.duration_ms,
        snapshot_id=run.snapshot_id,
        error=run.error,
        changes=Changes.from_json(run.changes) if run.changes else None,
    )
