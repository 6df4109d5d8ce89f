"""Jobs of Dagster's own, small enough to be looked at whole, and what the mirror says of their runs."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from sqlalchemy import select, text

from rat_resources.metadata import Metadata
from rat_resources.metadata.lakeflow import (
    DimJob,
    DimJobTask,
    FactJobRunTimeline,
    FactJobTaskRunTimeline,
)

TABLES = (DimJob, DimJobTask, FactJobRunTimeline, FactJobTaskRunTimeline)


@dg.op
def one() -> int:
    """A number."""
    return 1


@dg.op
def keep(number: int) -> int:
    """The same number."""
    return number


@dg.op
def fail() -> int:
    """Nothing, ever."""
    message = "no"
    raise ValueError(message)


@dg.op
def stop() -> int:
    """What a step does that hears that its run is to stop."""
    raise dg.DagsterExecutionInterruptedError


@dg.op(retry_policy=dg.RetryPolicy(max_retries=2))
def third_time(context: dg.OpExecutionContext) -> int:
    """A number, at the third attempt."""
    if context.retry_number < 2:
        message = "not yet"
        raise ValueError(message)
    return 3


@dg.op(out={"left": dg.Out(is_required=False), "right": dg.Out(is_required=False)})
def only_left() -> Iterator[dg.Output[int]]:
    """One of two outputs."""
    yield dg.Output(1, "left")


@dg.op(out=dg.DynamicOut())
def two() -> Iterator[dg.DynamicOutput[int]]:
    """Two numbers, each of which is mapped."""
    for number in (1, 2):
        yield dg.DynamicOutput(number, mapping_key=str(number))


@dg.job(executor_def=dg.in_process_executor)
def succeeds() -> None:
    """Two steps that succeed."""
    keep(one())


@dg.job(executor_def=dg.in_process_executor)
def is_interrupted() -> None:
    """A step that is interrupted, and one that waits for it."""
    keep(stop())


@dg.job(executor_def=dg.in_process_executor)
def fails() -> None:
    """A step that fails, and one that waits for it."""
    keep(fail())


@dg.job(executor_def=dg.in_process_executor)
def retries() -> None:
    """A step that succeeds at last."""
    third_time()


@dg.job(executor_def=dg.in_process_executor)
def skips() -> None:
    """A step whose input never comes."""
    left, right = only_left()
    keep.alias("on_left")(left)
    keep.alias("on_right")(right)


@dg.job(executor_def=dg.in_process_executor)
def maps() -> None:
    """A step that is mapped over what another one yields."""
    two().map(keep)


@dg.op(config_schema={"path": str, "password": str})
def configured(context: dg.OpExecutionContext) -> str:
    """What it was configured with."""
    return str(context.op_config["path"])


@dg.job(executor_def=dg.in_process_executor)
def takes_config() -> None:
    """A step that wants a secret."""
    configured()


def create(
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    *,
    location: str = "elsewhere",
    **facts: Any,  # noqa: ANN401 - Dagster's own
) -> dg.DagsterRun:
    """A run of *job* that has not started, as a code location asks for it."""
    place = RemoteRepositoryOrigin(
        RegisteredCodeLocationOrigin(location_name=location), "__repository__"
    )
    return instance.create_run_for_job(
        job_def=job, remote_job_origin=RemoteJobOrigin(place, job.name), **facts
    )


def execute(
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    **facts: Any,  # noqa: ANN401 - Dagster's own
) -> str:
    """Run *job* to its end; the id of the run."""
    run = create(instance, job, **facts)
    execute_run(InMemoryJob(job), run, instance, raise_on_error=False)
    return run.run_id


def run_of(metadata: Metadata, run_id: str) -> FactJobRunTimeline:
    """What the mirror says of a run."""
    with metadata.transaction() as tx:
        return tx.scalars(
            select(FactJobRunTimeline).where(FactJobRunTimeline.run_id == run_id)
        ).one()


def steps_of(metadata: Metadata, run_id: str) -> dict[str, str | None]:
    """By step and attempt, what became of it."""
    facts = FactJobTaskRunTimeline
    with metadata.transaction() as tx:
        rows = tx.scalars(select(facts).where(facts.run_id == run_id))
        return {
            each.task_run_id.removeprefix(f"{run_id}:"): each.result_state
            for each in rows
        }


def contents(metadata: Metadata) -> dict[str, list[tuple[object, ...]]]:
    """Every row that the mirror has of Dagster's log."""
    with metadata.transaction() as tx:
        return {
            table.__tablename__: sorted(
                (
                    tuple(row)
                    for row in tx.execute(
                        text(f"SELECT * FROM lakeflow.{table.__tablename__}")
                    )
                ),
                key=repr,
            )
            for table in TABLES
        }


def change(metadata: Metadata, statement: str, **values: object) -> None:
    """Do to Dagster's tables what Dagster never does."""
    with metadata.transaction() as tx:
        tx.execute(text(statement), values)
