"""Alerting: which alerts a run raises and which it resolves, before anybody can read what it made.

It is decided on the branch, after the tests, and stands in the intent's facts; so it is told when the
rows are published, by whoever publishes them, and never twice. A condition that cannot be evaluated
stops no run: it is a trouble of RAT's own, told once while it lasts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy.orm import Session

from rat_assets import alert_code, findings
from rat_assets.alert_code import Desk
from rat_assets.computation import Computation
from rat_assets.findings import Scene
from rat_assets.heartbeat import is_interrupt
from rat_assets.inputs import Inputs
from rat_assets.journal import Level
from rat_assets.quality import TestResult
from rat_assets.trial import Trial
from rat_resources.alerts import episodes, events, outcomes
from rat_resources.alerts.definitions import Definition
from rat_resources.alerts.episodes import Told
from rat_resources.alerts.matches import Looked, Occasion
from rat_resources.alerts.outcomes import Outcome, Verdicts
from rat_resources.errors import QueryError, RatError
from rat_resources.lake.reading import register_table
from rat_resources.lake.sql import quote
from rat_resources.metadata.runs import RunStatus

BEFORE = "rat: the table as it was"


def evaluate(
    work: Computation, trial: Trial, *, dagster_run_id: str, facts: Mapping[str, Any]
) -> dict[str, Any] | None:
    """What publishing a run says about alerts, for its facts; None: nothing."""
    definitions = [each for each in work.alerts if is_about(each, work)]
    if not definitions:
        return None
    data = str(facts["data_version"])
    occasion = Occasion(
        identity=data,
        table=str(work.name),
        pipeline=str(work.name),
        run_id=work.run_id,
        dagster_run_id=dagster_run_id,
        cause=f"{work.name} {data}",
    )
    try:
        looked = look_at_rows(work, trial, definitions)
    except Exception as error:
        if is_interrupt(error):
            raise
        looked = [Looked(each, trouble=as_trouble(error)) for each in definitions]
    with work.platform.metadata.transaction() as tx:
        looked += look_at_outcome(tx, definitions, outcome_of(work, trial))
        told = episodes.conclude(tx, looked, occasion=occasion)
    say(work, told)
    return told.to_json() if told else None


def is_about(definition: Definition, work: Computation) -> bool:
    """Whether a run of *work* can say anything about a definition."""
    if definition.kind == "run_status":
        return outcomes.watches(definition, str(work.name))
    return definition.table == work.name


def as_trouble(error: Exception) -> RatError:
    """An error as one of ours."""
    if isinstance(error, RatError):
        return error
    return QueryError(f"{type(error).__name__}: {error}")


def say(work: Computation, told: Told) -> None:
    """Say in the run's log what is told."""
    for event in told.events:
        level: Level = "info" if event.payload.state == "resolved" else "warning"
        work.journal.say(f"alert: {event.payload.title}", level=level)
    for trouble in told.troubles:
        work.journal.say(trouble.title, level="warning")


# What the table holds.


def look_at_rows(
    work: Computation, trial: Trial, definitions: Sequence[Definition]
) -> list[Looked]:
    """What the rows say to the alerts about them; nothing where they are as they were."""
    if work.unchanged or (work.table is None and not work.spec.is_view):
        return []
    about_rows = [each for each in definitions if each.kind in findings.KINDS]
    with_code = [each for each in definitions if each.kind in alert_code.KINDS]
    looked: list[Looked] = []
    if about_rows:
        trial.register_own()
        with work.platform.metadata.transaction() as tx:
            raised = events.raised(tx, {each.id for each in about_rows})
        scene = replace(scene_of(work, about_rows), raised=frozenset(raised))
        looked += findings.look(scene, about_rows)
    if with_code:
        desk = Desk(work.platform, inputs_of(work))
        for each in with_code:
            work.heart.refuse_stop()
            looked.append(desk.look(each))
    return looked


def scene_of(work: Computation, definitions: Sequence[Definition]) -> Scene:
    """The table, and how it was before where somebody asks."""
    before = None
    if work.own is not None and any(each.kind == "zscore" for each in definitions):
        register_table(work.connection, work.own, view=BEFORE)
        before = quote(BEFORE)
    return Scene(
        work.connection,
        work.name,
        before=before,
        masked=work.masked,
        order=work.config.watermark_column or None,
    )


def inputs_of(work: Computation) -> Inputs:
    """What alert code can read: all as the run read it, and the table as it made it."""
    if work.spec.is_view:
        views, sources = {work.name: work.pipeline}, {work.name: work.source}
        return replace(work.inputs, tables={}, views=views, sources=sources)
    tables = {} if work.table is None else {work.name: work.table}
    return replace(work.inputs, tables=tables, views={}, sources={})


# What the run did.


def look_at_outcome(
    tx: Session, definitions: Sequence[Definition], outcome: Outcome
) -> Iterator[Looked]:
    """What a run's tests, columns, rows and end say to the alerts about them."""
    for each in definitions:
        try:
            matches = outcomes.look(tx, each, outcome)
        except RatError as error:
            yield Looked(each, trouble=error)
            continue
        if matches is not None:
            covers = frozenset({outcome.table}) if each.kind == "run_status" else None
            yield Looked(each, matches, covers=covers)


def outcome_of(work: Computation, trial: Trial) -> Outcome:
    """What a run did that is about to succeed."""
    written = work.written
    return Outcome(
        run_id=work.run_id,
        pipeline_id=work.pipeline.pipeline_id,
        table=str(work.name),
        status=RunStatus.SUCCESS,
        rows_written=written.rows_written if written else 0,
        unchanged=work.unchanged,
        columns=trial.columns,
        results=[verdict_of(each) for each in trial.verdicts],
    )


def verdict_of(result: TestResult) -> Verdicts:
    """What a test said."""
    return Verdicts(
        result.test.name,
        str(result.verdict),
        offenders=result.offenders,
        message=result.message,
        sample=result.sample,
        remediation=result.test.remediation,
    )
