"""The step of a pipeline, as Dagster sees it: one op, its materialization, its checks.

A published attempt yields its materialization first and then every check: Dagster stamps a check
with the newest materialization it has seen. One that the tests stopped yields the checks alone,
and so no materialization; what Dagster shows as materialized is what stands on main.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from time import monotonic, sleep

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError

from rat_assets.hand_written import Body
from rat_assets.journal import Journal
from rat_assets.phases import Attempt, Outcome, Step
from rat_assets.showing import describe
from rat_resources import faults, landing, publications, runs
from rat_resources.errors import (
    CancelledError,
    MergeConflictError,
    MetadataError,
    QualityError,
    RatError,
)
from rat_resources.names import TableName
from rat_resources.observations import observe
from rat_resources.platform import Platform
from rat_resources.releases import PublishedPipeline
from rat_resources.results import PastResult, recent_results
from rat_resources.runs import (
    ACCEPT_TAG,
    FULL_REFRESH_TAG,
    LABELS_TAG,
    ONLY_CHANGED_TAG,
    REPEATS_TAG,
    TRIGGER_TAG,
    WORKER_TAG,
)
from rat_resources.tasks import AGAIN
from rat_resources.workers import this_worker

StepEvent = dg.MaterializeResult | dg.AssetCheckResult


def asset_key(table: TableName) -> dg.AssetKey:
    """The asset that a pipeline's table is."""
    return dg.AssetKey([*table.key])


def run_step(
    context: dg.AssetExecutionContext,
    pipeline: PublishedPipeline,
    *,
    release: int,
    body: Body | None = None,
) -> Iterator[StepEvent]:
    """Run a pipeline, or a function in its place, and tell Dagster what became of it."""
    step = replace(make_step(context, pipeline, release=release), body=body)
    key = asset_key(pipeline.spec.table)
    with cancelling(context):
        attempt, outcome = run_attempts(
            step,
            log=context.log,
            first=context.op_execution_context.retry_number * AGAIN + 1,
        )
    past = past_results(step)
    if outcome is None:
        place = f"on branch {attempt.branch}; main is unchanged at {attempt.base_commit[:12]}"
        for result in attempt.verdicts:
            yield result.to_check(key, place=place, past=past.get(result.test.name, ()))
        return
    faults.point("materialization")
    yield dg.MaterializeResult(
        asset_key=key,
        data_version=dg.DataVersion(outcome.data_version),
        metadata=describe(step, outcome),
    )
    faults.point("checks")
    for result in outcome.verdicts:
        yield result.to_check(
            key,
            place=f"published, {at_main(outcome)}",
            past=past.get(result.test.name, ()),
        )
    faults.point("close")
    # Dagster's log has it now; until here a reconciler would have reported it.
    with step.platform.metadata.transaction() as tx:
        publications.close(tx, outcome.run_id)
    if outcome.files:
        observe_zones(context, step)
    if attempt.heart.was_interrupted:
        with cancelling(context):
            raise DagsterExecutionInterruptedError


def past_results(step: Step) -> Mapping[str, Sequence[PastResult]]:
    """What each test said in the last runs, this one among them; nothing if Postgres is gone."""
    if not step.spec.tests:
        return {}
    try:
        with step.platform.metadata.transaction() as tx:
            return recent_results(tx, step.pipeline.pipeline_id)
    except MetadataError:
        return {}  # what was published is not to fail for it


def observe_zones(context: dg.AssetExecutionContext, step: Step) -> None:
    """Tell Dagster what is in the landing zones that were read, the newest files by name."""
    with suppress(MetadataError), step.platform.metadata.transaction() as tx:
        for mention in step.spec.zones:
            zone = landing.get_zone(tx, step.spec.table.namespace, name=mention.name)
            if zone is not None:
                context.log_event(observe(tx, zone))


@contextmanager
def cancelling(context: dg.AssetExecutionContext) -> Iterator[None]:
    """Whatever interrupts the step cancels the run; Dagster alone would call it a failure."""
    try:
        yield
    except (DagsterExecutionInterruptedError, KeyboardInterrupt) as error:
        run = context.instance.get_run_by_id(context.run.run_id)
        if run is not None and run.status == dg.DagsterRunStatus.STARTED:
            context.instance.report_run_canceling(run)
        raise DagsterExecutionInterruptedError from error


def make_step(
    context: dg.AssetExecutionContext, pipeline: PublishedPipeline, *, release: int
) -> Step:
    """What this step of this Dagster run is asked to do."""
    platform: Platform = context.resources.platform
    tags = context.run.tags
    if WORKER_TAG not in tags:
        # So that a reconciler can tell when this process is gone; Dagster's launcher cannot.
        context.instance.add_run_tags(context.run.run_id, {WORKER_TAG: this_worker()})
    return Step(
        platform=platform,
        pipeline=pipeline,
        release=release,
        dagster_run_id=context.run.run_id,
        trigger=trigger_of(tags, pipeline.spec.table),
        full_refresh=tags.get(FULL_REFRESH_TAG) == "true",
        accepted_by=accepted_by(tags),
        only_changed=tags.get(ONLY_CHANGED_TAG) == "true"
        or trigger_of(tags, pipeline.spec.table) == "auto",
    )


def accepted_by(tags: Mapping[str, str]) -> str:
    """Who accepts what this very run changes; Dagster copies the tags to a run that repeats it."""
    return "" if REPEATS_TAG in tags else tags.get(ACCEPT_TAG, "")


def trigger_of(tags: Mapping[str, str], table: TableName) -> str:
    """Why *table* runs, by the tags of its Dagster run; what follows a table runs by itself."""
    if LABELS_TAG in tags:
        return str(json.loads(tags[LABELS_TAG]).get(str(table), "auto"))
    fallback = "backfill" if "dagster/backfill" in tags else "manual"
    return tags.get(TRIGGER_TAG, fallback)


def run_attempts(
    step: Step, *, log: logging.Logger, first: int
) -> tuple[Attempt, Outcome | None]:
    """Try until a run publishes or may not be tried again; no outcome: the tests stopped it."""
    retries, conflicts = step.spec.config.max_retries, 0
    number = first
    while True:
        journal = Journal(step.spec.table, log)
        attempt = Attempt(
            step, number, journal, retries=retries, may_repeat=conflicts == 0
        )
        try:
            return attempt, attempt.run()
        except QualityError:
            return attempt, None
        except CancelledError as error:
            raise DagsterExecutionInterruptedError(str(error)) from error
        except MergeConflictError as error:
            conflicts += 1
            if conflicts > 1:
                raise failure(attempt, error) from error
        except Exception as error:
            if attempt.again_in is None or attempt.was_settled:
                raise failure(attempt, error) from error
            retries -= 1
            seconds = attempt.again_in.total_seconds()
            log.warning(
                f"{step.spec.table}: attempt {number} failed, again in {seconds:g} s"
            )
            pause(step, seconds=seconds)
        number += 1


def pause(step: Step, *, seconds: float) -> None:
    """Wait before the next attempt, unless nobody wants it any more."""
    until = monotonic() + seconds
    while (left := until - monotonic()) > 0:
        with step.platform.metadata.transaction() as tx:
            if runs.stopped_by(tx, step.dagster_run_id) is not None:
                return  # the attempt refuses to begin, and says so
        sleep(min(left, 1.0))


def failure(attempt: Attempt, error: Exception) -> dg.Failure:
    """A failed attempt as Dagster's own failure, which it does not retry once more."""
    known = isinstance(error, RatError)
    what = str(error) if known else f"{type(error).__name__}: {error}"
    main = (
        f"; main is unchanged at {attempt.base_commit[:12]}"
        if attempt.base_commit
        else ""
    )
    return dg.Failure(
        description=f"{attempt.name}: {what}{main}",
        metadata={
            "run": dg.MetadataValue.text(str(attempt.run_id)),
            "phase": dg.MetadataValue.text(attempt.journal.current or "waiting"),
        },
        allow_retries=False,
    )


def at_main(outcome: Outcome) -> str:
    """Where a publication stands."""
    return f"main {(outcome.commit or outcome.base_commit)[:12]}"
