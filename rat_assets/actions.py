"""Actions: what people do through Dagster besides materializing, each a named job with a form.

The command line calls the same functions.
"""

import getpass
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import dagster as dg
from pydantic import Field
from sqlalchemy import func, select

from rat_assets.entries import as_code
from rat_resources import (
    archive,
    code_server,
    landing,
    plans,
    releases,
    retirement,
    rollback,
)
from rat_resources.errors import NotFoundError, RatError
from rat_resources.leftovers import left_open
from rat_resources.metadata import audit
from rat_resources.metadata.pipelines import Release as ReleaseRow
from rat_resources.plans import Plan
from rat_resources.platform import Platform
from rat_resources.reconciliation import long_enough
from rat_resources.reconciliation import reconcile as reconcile_all
from rat_resources.releases import Release
from rat_resources.runs import REPEATS_TAG

PREVIEW_BYTES = 60_000


class RunConfig(dg.Config):
    """What the job `run` is asked to do."""

    # Not by default_factory: the launchpad's form would leave it out.
    selection: list[str] = Field(
        default=[],
        description="ns.layer.name, patterns of it (nyc.silver.*), or namespaces",
    )
    all: bool = Field(default=False, description="every published pipeline")
    downstream: bool = Field(
        default=False, description="and everything that reads them"
    )
    upstream: bool = Field(default=False, description="and everything that they read")
    full_refresh: bool = Field(default=False, description="write the tables anew")
    only_changed: bool = Field(
        default=False, description="leave out what would read the same as the last time"
    )
    accept_changes: bool = Field(
        default=False, description="let this one run pass the guards"
    )


class PublishConfig(dg.Config):
    """What the job `publish` is asked to do; without a path it publishes what the store holds."""

    path: str = Field(
        default="", description="a folder that this machine sees; empty: the store"
    )
    message: str = Field(default="", description="what changes, for the release")


class RetireConfig(dg.Config):
    """Which pipelines the job `retire` takes out of what is current."""

    pipelines: list[str] = Field(
        default=[], description="ns.layer.name of each; readers of them go with them"
    )
    message: str = Field(default="", description="why, for the release")


class RollbackConfig(dg.Config):
    """Which release the job `rollback` makes current again."""

    release: int = Field(description="its number; `rat rollback` lists them")
    message: str = Field(default="", description="why, for the release")


class PreviewConfig(dg.Config):
    """What the job `preview` is asked to try: a published name, or a path that its worker sees."""

    pipeline: str
    limit: int = 20
    samples: bool = False
    full_refresh: bool = False
    timeout: float = 60.0
    memory: str = "2GB"


class RejectConfig(dg.Config):
    """Which landing file shall be taken out of its zone."""

    zone: str
    file: str


def publish(whole: Platform, folder: Path | None, *, message: str = "") -> Release:
    """Publish a folder tree, or what the store holds, if Dagster and the lake take it."""
    from rat_assets.pipelines import try_build  # noqa: PLC0415 - the command line need not load it

    tables = {str(name) for name in whole.lake.published()}
    return releases.publish(
        whole.metadata,
        whole.store,
        folder,
        message=message,
        published_by=user(),
        check=try_build,
        table_exists=lambda table: str(table) in tables,
        pinned=recent_releases(whole),
    )


def plan(whole: Platform, folder: Path | None) -> Plan:
    """What `publish` would change; it is refused for the same problems."""
    from rat_assets.pipelines import try_build  # noqa: PLC0415 - the command line need not load it

    tables = {str(name) for name in whole.lake.published()}
    return plans.plan(
        whole.metadata,
        whole.store,
        folder,
        check=try_build,
        table_exists=lambda table: str(table) in tables,
    )


def retire(whole: Platform, names: Sequence[str], *, message: str = "") -> Release:
    """Take pipelines out of what is current; their tables stay on main."""
    return retirement.retire(
        whole.metadata, whole.store, names, message=message, retired_by=user()
    )


def roll_back(
    whole: Platform, to: int, *, message: str = "", dry_run: bool = False
) -> Release:
    """Make what an earlier release held current again, as a new release."""
    from rat_assets.pipelines import try_build  # noqa: PLC0415 - the command line need not load it

    tables = {str(name) for name in whole.lake.published()}
    return rollback.roll_back(
        whole.metadata,
        whole.store,
        to,
        message=message,
        published_by=user(),
        check=try_build,
        table_exists=lambda table: str(table) in tables,
        pinned=recent_releases(whole),
        dry_run=dry_run,
    )


def recent_releases(whole: Platform) -> list[int]:
    """The releases that a queued or running Dagster run may have been launched with."""
    a_day_ago = func.now() - timedelta(days=1)
    with whole.metadata.transaction() as tx:
        recent = tx.scalars(
            select(ReleaseRow.number).where(ReleaseRow.created_at >= a_day_ago)
        ).all()
        before = tx.scalar(
            select(func.max(ReleaseRow.number)).where(ReleaseRow.created_at < a_day_ago)
        )
    return [*recent, *([before] if before is not None else [])]


def reject(whole: Platform, zone_name: str, *, file: str) -> None:
    """Move a landing file aside, so that no run reads it any more."""
    namespace, _, name = zone_name.partition("/")
    with whole.metadata.transaction() as tx:
        zone = landing.get_zone(tx, namespace, name=name)
        if zone is None:
            message = f"no landing zone {zone_name}"
            raise NotFoundError(
                message, fix="write NAMESPACE/ZONE as published pipelines name it"
            )
        archive.reject(tx, zone, root=whole.settings.store, name=file)
        audit.record(tx, "landing.reject", resource=f"{zone_name}/{file}", user=user())
    with whole.metadata.transaction() as tx:
        archive.finish_moves(tx, zone, root=whole.settings.store)


def user() -> str:
    """Who acts: the name of the operating system's user."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def jobs() -> Sequence[dg.JobDefinition]:
    """The named jobs."""
    return [
        run_job,
        publish_job,
        retire_job,
        rollback_job,
        preview_job,
        reconcile_job,
        reject_job,
    ]


def is_repeated(context: dg.OpExecutionContext) -> bool:
    """Whether it does again what another run was asked for: what that accepted was meant once."""
    return REPEATS_TAG in context.run.tags


@dg.op(name="run_pipelines", required_resource_keys={"platform"})
def run_op(context: dg.OpExecutionContext, config: RunConfig) -> None:
    """Run a selection of pipelines as a Dagster run of its own, and wait for it."""
    from rat_assets import runner  # noqa: PLC0415 - it loads the definitions, which load this

    if config.all == bool(config.selection):
        message = "name what to run in `selection`, or say `all: true`; not both"
        raise dg.Failure(message, allow_retries=False)
    ask = runner.RunAsk(
        selection=tuple(config.selection),
        everything=config.all,
        downstream=config.downstream,
        upstream=config.upstream,
        full_refresh=config.full_refresh,
        only_changed=config.only_changed,
        accepted_by=user()
        if config.accept_changes and not is_repeated(context)
        else "",
    )
    with failing():
        report = runner.run(context.resources.platform, ask, instance=context.instance)
    for each in report.tables:
        context.log.info(f"{each.table}: {each.status}")
    context.add_output_metadata({"dagster_run": report.dagster_run_id})
    if not report.succeeded:
        unpublished = [str(each.table) for each in report.tables if each.error]
        raise dg.Failure(f"not everything was published: {', '.join(unpublished)}")


@dg.op(name="publish_pipelines", required_resource_keys={"platform"})
def publish_op(context: dg.OpExecutionContext, config: PublishConfig) -> None:
    """Publish pipelines: all of them become current together, or none."""
    folder = Path(config.path).expanduser() if config.path else None
    with failing():
        release = publish(context.resources.platform, folder, message=config.message)
    if release.is_new:
        code_server.reload(context.resources.platform.settings)
    context.add_output_metadata(
        {
            "release": release.number,
            "created": [str(each) for each in release.created],
            "changed": [str(each) for each in release.changed],
            "warnings": [str(each) for each in release.warnings],
        }
    )


@dg.op(name="retire_pipelines", required_resource_keys={"platform"})
def retire_op(context: dg.OpExecutionContext, config: RetireConfig) -> None:
    """Take pipelines out of what is current: all that are named, or none."""
    whole = context.resources.platform
    with failing():
        if not config.pipelines:
            message = "name what to retire in `pipelines`"
            raise NotFoundError(message, fix="write ns.layer.name")
        release = retire(whole, config.pipelines, message=config.message)
    code_server.reload(whole.settings)
    retired = [str(each) for each in release.retired]
    context.add_output_metadata({"release": release.number, "retired": retired})


@dg.op(name="roll_back_release", required_resource_keys={"platform"})
def rollback_op(context: dg.OpExecutionContext, config: RollbackConfig) -> None:
    """Make an earlier release current again: all of it, or nothing."""
    whole = context.resources.platform
    with failing():
        release = roll_back(whole, config.release, message=config.message)
    if release.is_new:
        code_server.reload(whole.settings)
    context.add_output_metadata(
        {
            "release": release.number,
            "created": [str(each) for each in release.created],
            "changed": [str(each) for each in release.changed],
            "retired": [str(each) for each in release.retired],
        }
    )


@dg.op(name="preview_pipeline", required_resource_keys={"platform"})
def preview_op(context: dg.OpExecutionContext, config: PreviewConfig) -> None:
    """Try a pipeline against main with its tests; nothing is written."""
    # The command line need not load it.
    from rat_assets.commands import authoring  # noqa: PLC0415
    from rat_assets.rehearsal import Ask, Limits  # noqa: PLC0415

    ask = Ask(full_refresh=config.full_refresh, samples=config.samples)
    limits = Limits(config.limit, seconds=config.timeout, memory=config.memory)
    whole = context.resources.platform
    with failing():
        seen = authoring.look(whole, config.pipeline, ask=ask, limits=limits)
    lines = list(authoring.describe(seen))
    context.log.info("\n".join(lines))
    context.add_output_metadata(
        {
            "preview": as_code("\n".join(lines), language="text", limit=PREVIEW_BYTES),
            "would_publish": seen.would_publish,
            "rows_returned": seen.sample.count,
        }
    )
    if not seen.would_publish:
        raise dg.Failure(lines[-1], allow_retries=False)


@dg.op(name="reconcile_all", required_resource_keys={"platform"})
def reconcile_op(context: dg.OpExecutionContext) -> None:
    """Finish or undo what a crash left open."""
    whole = context.resources.platform
    for line in reconcile_all(whole, context.instance, patience=long_enough(whole)):
        context.log.info(line)
    left = left_open(whole, context.instance)
    if left:
        raise dg.Failure("; ".join(left), allow_retries=False)


@dg.op(name="reject_file", required_resource_keys={"platform"})
def reject_op(context: dg.OpExecutionContext, config: RejectConfig) -> None:
    """Move a landing file to _rejected/."""
    with failing():
        reject(context.resources.platform, config.zone, file=config.file)


@contextmanager
def failing() -> Iterator[None]:
    """Show a mistake as what it is, without a stack trace of ours."""
    try:
        yield
    except RatError as error:
        raise dg.Failure(str(error), allow_retries=False) from None


@dg.job(name="run", executor_def=dg.in_process_executor)
def run_job() -> None:
    """Run pipelines by name, pattern or namespace, in dependency order."""
    run_op()


@dg.job(name="publish", executor_def=dg.in_process_executor)
def publish_job() -> None:
    """Publish a folder tree of pipelines."""
    publish_op()


@dg.job(name="retire", executor_def=dg.in_process_executor)
def retire_job() -> None:
    """Take pipelines out of what is current; their tables stay."""
    retire_op()


@dg.job(name="rollback", executor_def=dg.in_process_executor)
def rollback_job() -> None:
    """Make what an earlier release held current again."""
    rollback_op()


@dg.job(name="preview", executor_def=dg.in_process_executor)
def preview_job() -> None:
    """Try a pipeline with its tests, and write nothing."""
    preview_op()


@dg.job(name="reconcile", executor_def=dg.in_process_executor)
def reconcile_job() -> None:
    """Finish or undo what a crash left open."""
    reconcile_op()


@dg.job(name="reject", executor_def=dg.in_process_executor)
def reject_job() -> None:
    """Take a landing file out of its zone."""
    reject_op()
