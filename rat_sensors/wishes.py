"""The wishes sensor: turns due wishes into runs, one for a pipeline and all that follows it.

What should run is decided by `rat_resources.wishes.plan`; here Dagster is asked, and asked again
when it never got to know.
"""

import json
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster import DagsterRunStatus, RunsFilter
from dagster._core.definitions.target import ExecutableDefinition
from sqlalchemy.orm import Session

from rat_resources import graph, wishes
from rat_resources.metadata import Metadata
from rat_resources.names import TableName
from rat_resources.runs import LABELS_TAG, TRIGGER_TAG
from rat_resources.wishes import Asked, Node, RunAsk, Shape

RUN_KEY = "dagster/run_key"
UNFINISHED = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


def graph_of(tx: Session, *, written: Collection[TableName] = ()) -> list[Node]:
    """The pipelines of the current release, and what each one follows.

    Of what was *written* by hand only what this code location has can be asked for.
    """
    return [
        Node(
            pipeline_id=each.pipeline_id,
            table=each.table,
            upstream=frozenset(each.refs),
            eager=each.automation == "eager",
        )
        for each in graph.outlines(tx)
        if not each.hand_written or each.table in written
    ]


def run_request(ask: RunAsk) -> dg.RunRequest:
    """A run as Dagster is asked for it."""
    labels = {str(table): label for table, label in ask.labels.items()}
    return dg.RunRequest(
        run_key=ask.run_key,
        asset_selection=[dg.AssetKey(table.key) for table in ask.selection],
        tags={TRIGGER_TAG: ask.label, LABELS_TAG: json.dumps(labels)},
    )


@dataclass(frozen=True)
class Pending:
    """What became of the runs that were asked for."""

    active: frozenset[TableName]
    again: tuple[RunAsk, ...]


def follow_up(tx: Session, instance: dg.DagsterInstance, *, shape: Shape) -> Pending:
    """Free the wishes whose run has ended, and find those that Dagster never heard of."""
    active: set[TableName] = set(unfinished_tables(instance))
    again = []
    for each in wishes.asked(tx):
        record = next(
            iter(
                instance.get_run_records(
                    RunsFilter(tags={RUN_KEY: each.run_key}), limit=1
                )
            ),
            None,
        )
        if record is None:
            active |= shape.asked_for(each.wishes).keys()
            again += [ask_again(each, shape=shape)] if each.is_overdue else []
        elif not record.dagster_run.is_finished:
            continue
        elif is_withdrawn(record):
            wishes.cancel_unstarted(tx, each.run_key)
        else:
            wishes.return_unstarted(tx, each.run_key)
    return Pending(frozenset(active), tuple(again))


def is_withdrawn(record: dg.RunRecord) -> bool:
    """Whether a person took a run out of the queue; a stopped server cancels started ones only."""
    return (
        record.dagster_run.status is DagsterRunStatus.CANCELED
        and record.start_time is None
    )


def unfinished_tables(instance: dg.DagsterInstance) -> Iterable[TableName]:
    """The tables that Dagster's unfinished runs are about."""
    for run in instance.get_runs(RunsFilter(statuses=UNFINISHED)):
        for key in run.asset_selection or ():
            if len(key.path) == 3:  # noqa: PLR2004 - a table's key
                yield TableName(*key.path)


def ask_again(asked: Asked, *, shape: Shape) -> RunAsk:
    """The request that got lost, under the same key."""
    selection = tuple(sorted(shape.asked_for(asked.wishes)))
    labels = {
        shape.names[wish.pipeline_id]: wish.label
        for wish in asked.wishes
        if wish.pipeline_id in shape.names
    }
    return RunAsk(
        selection, labels, tuple(wish.id for wish in asked.wishes), asked.run_key
    )


def busy_pipelines(
    tx: Session, *, tables: Iterable[TableName], shape: Shape
) -> set[uuid.UUID]:
    """The pipelines that nothing may be asked for now."""
    known = {shape.nodes[table].pipeline_id for table in tables if table in shape.nodes}
    return known | wishes.running(tx)


def build_wishes_sensor(
    job: ExecutableDefinition, *, written: Collection[TableName] = ()
) -> dg.SensorDefinition:
    """The sensor that asks for runs of *job*."""

    @dg.sensor(
        name="wishes",
        job=job,
        description="Turns due wishes into runs: one for a pipeline and all that follows it.",
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"metadata"},
    )
    def wishes_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        asks, held = ask_for_due(
            context.resources.metadata, context.instance, written=written
        )
        return result_of(asks, held=held)

    return wishes_sensor


def ask_for_due(
    metadata: Metadata,
    instance: dg.DagsterInstance,
    *,
    written: Collection[TableName] = (),
) -> tuple[list[RunAsk], Sequence[wishes.Held]]:
    """The runs to ask Dagster for now, each noted as asked for, and what keeps waiting."""
    with metadata.transaction() as tx:
        if not wishes.is_any_open(tx):
            return [], ()
        wishes.end_retired(tx)  # of what was wished after it was retired
        pipelines = graph_of(tx, written=written)
        shape = Shape.of(pipelines)
        pending = follow_up(tx, instance, shape=shape)
        busy = busy_pipelines(tx, tables=pending.active, shape=shape)
        plan = wishes.plan(
            wishes.due(tx),
            graph=pipelines,
            active=busy,
            correcting=wishes.correcting(tx),
        )
        asks = [ask for ask in plan.asks if wishes.request(tx, ask)]
    return [*pending.again, *asks], plan.held


def result_of(
    asks: Sequence[RunAsk], *, held: Sequence[wishes.Held]
) -> dg.SensorResult:
    """The runs to start, or what is waited for."""
    if asks:
        return dg.SensorResult(
            run_requests=[run_request(ask) for ask in asks if ask.selection]
        )
    waits = "; ".join(f"{len(one.tables)} tables wait: {one.why}" for one in held[:10])
    return dg.SensorResult(skip_reason=waits or "nothing is due")
