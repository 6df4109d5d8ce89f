"""What pipelines declare beside their code: tests, schedules, triggers, zones, documentation.

Written at publish, in its transaction. What is declared again keeps its row and so its history;
what is declared no longer stops, and keeps its history where it has any.
"""

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict

from sqlalchemy import delete, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from rat_resources.configuration import Trigger
from rat_resources.metadata.automation import PipelineTrigger
from rat_resources.metadata.automation import Schedule as ScheduleRow
from rat_resources.metadata.catalog import TableMetadata
from rat_resources.metadata.landing import BUILT_IN, LandingZone
from rat_resources.metadata.quality import QualityTest
from rat_resources.specs import PipelineSpec, pipeline_folder
from rat_resources.trees import ZoneDescription


def write(
    tx: Session,
    pipeline_id: uuid.UUID,
    *,
    spec: PipelineSpec,
    before: PipelineSpec | None,
) -> None:
    """Make the rows of one pipeline say what *spec* says."""
    write_tests(tx, pipeline_id, spec=spec, before=before)
    write_schedules(tx, pipeline_id, spec=spec)
    write_triggers(tx, pipeline_id, spec=spec)
    write_documentation(tx, spec, before=before)


def withdraw(tx: Session, pipeline_id: uuid.UUID) -> None:
    """Stop everything that a retired pipeline declared."""
    for model in (ScheduleRow, PipelineTrigger):
        tx.execute(
            update(model).where(model.pipeline_id == pipeline_id).values(enabled=False)
        )
    tests = update(QualityTest).where(QualityTest.pipeline_id == pipeline_id)
    tx.execute(tests.values(active=False))


def write_tests(
    tx: Session,
    pipeline_id: uuid.UUID,
    *,
    spec: PipelineSpec,
    before: PipelineSpec | None,
) -> None:
    """The tests; one that is gone is kept with its results, and runs no more.

    What RAT watches unasked has a row from its first finding on, unless an author asked for it before.
    """
    names = [test.name for test in spec.checks]
    asked = before is not None and before.watch is None
    gone = (QualityTest.pipeline_id == pipeline_id) & QualityTest.name.not_in(names)
    tx.execute(update(QualityTest).where(gone).values(active=False))
    for test in spec.checks if asked else spec.tests:
        values = {
            "description": test.description,
            "severity": test.severity,
            "s3_path": f"{pipeline_folder(spec.table)}/{test.path}",
            "tags": list(test.tags),
            "remediation": test.remediation,
            "active": True,
        }
        row = insert(QualityTest).values(
            pipeline_id=pipeline_id, name=test.name, **values
        )
        tx.execute(
            row.on_conflict_do_update(
                index_elements=["pipeline_id", "name"], set_=values
            )
        )


def write_schedules(tx: Session, pipeline_id: uuid.UUID, *, spec: PipelineSpec) -> None:
    """The schedules; one that is declared again remembers when it ran."""
    schedules = spec.config.schedules
    clocks = [(each.cron, each.timezone) for each in schedules]
    clock = tuple_(ScheduleRow.cron_expr, ScheduleRow.timezone)
    gone = (ScheduleRow.pipeline_id == pipeline_id) & clock.not_in(clocks)
    tx.execute(delete(ScheduleRow).where(gone))
    for each in schedules:
        values = {
            "enabled": each.enabled,
            "catch_up": each.catch_up,
            "overlap": each.overlap,
        }
        row = insert(ScheduleRow).values(
            pipeline_id=pipeline_id,
            cron_expr=each.cron,
            timezone=each.timezone,
            **values,
        )
        key = ["pipeline_id", "cron_expr", "timezone"]
        tx.execute(row.on_conflict_do_update(index_elements=key, set_=values))


def write_triggers(tx: Session, pipeline_id: uuid.UUID, *, spec: PipelineSpec) -> None:
    """The triggers; one that is declared again remembers when it fired."""
    mine = select(PipelineTrigger).where(PipelineTrigger.pipeline_id == pipeline_id)
    old = {(row.type, *sorted(row.config.items())): row for row in tx.scalars(mine)}
    for trigger in spec.config.triggers:
        config = trigger_config(trigger)
        row = old.pop((trigger.type, *sorted(config.items())), None)
        if row is None:
            row = PipelineTrigger(
                pipeline_id=pipeline_id, type=trigger.type, config=config
            )
            tx.add(row)
        row.enabled = trigger.enabled
        row.cooldown_seconds = trigger.cooldown_seconds
    for row in old.values():
        tx.delete(row)
    tx.flush()


def trigger_config(trigger: Trigger) -> dict[str, str]:
    """What a trigger waits for, as its row says it."""
    config = {"namespace": trigger.namespace, "zone_name": trigger.zone_name}
    return config | ({"pattern": trigger.pattern} if trigger.pattern else {})


def write_documentation(
    tx: Session, spec: PipelineSpec, *, before: PipelineSpec | None
) -> None:
    """The table's description, owner and columns, unless a person wrote others since."""
    namespace, layer, name = spec.table.key
    row = tx.scalars(
        select(TableMetadata).where(
            TableMetadata.namespace == namespace,
            TableMetadata.layer == layer,
            TableMetadata.name == name,
        )
    ).one_or_none()
    if row is None:
        row = TableMetadata(namespace=namespace, layer=layer, name=name, description="")
        tx.add(row)
    if row.description in ("", before.description if before else ""):
        row.description = spec.description
    if (row.owner or "") in ("", before.owner if before else ""):
        row.owner = spec.owner or None
    row.column_descriptions = describe_columns(
        row.column_descriptions or {}, spec=spec, before=before
    )
    tx.flush()


def describe_columns(
    written: Mapping[str, str], *, spec: PipelineSpec, before: PipelineSpec | None
) -> dict[str, str]:
    """The columns' descriptions: what people wrote stays, what only *before* said goes."""
    old = described_columns(before) if before else {}
    by_people = {key: v for key, v in written.items() if v and v != old.get(key)}
    return described_columns(spec) | by_people


def described_columns(spec: PipelineSpec) -> dict[str, str]:
    """The descriptions that a spec gives."""
    columns = spec.config.columns
    return {each.name: each.description for each in columns if each.description}


def write_zones(
    tx: Session,
    *,
    named: Collection[tuple[str, str]],
    described: Sequence[ZoneDescription] = (),
) -> bool:
    """Make the zones that pipelines name exist as described; whether anything was changed.

    A zone that no pipeline names any more is no longer active; its files and their history stay.
    The platform's own is always there.
    """
    rows = {(row.namespace, row.name): row for row in tx.scalars(select(LandingZone))}
    new = sorted(set(named) - rows.keys())
    for namespace, name in new:
        rows[namespace, name] = LandingZone(namespace=namespace, name=name)
        tx.add(rows[namespace, name])
    active = {*named, BUILT_IN}
    changes = [set_changed(row, {"active": key in active}) for key, row in rows.items()]
    for zone in described:
        if zone_row := rows.get((zone.namespace, zone.name)):
            said = asdict(zone) | {"owner": zone.owner or None}
            changes.append(set_changed(zone_row, {key: said[key] for key in DESCRIBED}))
    tx.flush()
    return bool(new) or any(changes)


DESCRIBED = (
    "description",
    "owner",
    "expected_schema",
    "expected_columns",
    "archive",
    "auto_purge",
)


def set_changed(row: LandingZone, values: dict[str, object]) -> bool:
    """Set what differs; whether anything did."""
    differing = {
        name: value for name, value in values.items() if getattr(row, name) != value
    }
    for name, value in differing.items():
        setattr(row, name, value)
    return bool(differing)
