"""Triggers: events that make a pipeline run, turned into wishes.

A file trigger fires for files that its pipeline has yet to consume, however they became known:
by a look, by an upload, before the trigger was published, or beside a run that was starting.
"""

import re
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import translate

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from rat_resources import releases, wishes
from rat_resources.landing import Zone
from rat_resources.metadata.automation import PipelineTrigger, Wish
from rat_resources.metadata.landing import (
    ClaimState,
    FileState,
    LandingClaim,
    LandingFile,
)
from rat_resources.metadata.pipelines import Pipeline, PipelineVersion

UPLOAD = "landing_zone_upload"
PATTERN = "file_pattern"


@dataclass(frozen=True)
class Fired:
    """A wish that an event wrote."""

    pipeline_id: uuid.UUID
    label: str
    due_at: datetime


def fire_uploads(tx: Session, zone: Zone, *, now: datetime) -> list[Fired]:
    """Wish for every pipeline that waits for files of a zone and has not consumed them all.

    Call it with every look, in the transaction that records the files: the same newest file and
    version wish once, so repeating it is harmless, and what one look missed the next one finds.
    """
    fired = []
    for trigger in zone_triggers(tx, zone):
        version_id = current_version(tx, trigger.pipeline_id)
        newest = newest_unconsumed(tx, zone, trigger=trigger, version_id=version_id)
        if newest is not None:
            reason = f"trigger:{trigger.id}:{newest}:{version_id}"
            one = fire(tx, trigger, label=label_of(trigger), reason=reason, now=now)
            fired += [one] if one else []
    return fired


def zone_triggers(tx: Session, zone: Zone) -> list[PipelineTrigger]:
    """The enabled triggers that wait for files of a zone."""
    rows = (
        select(PipelineTrigger)
        .join(Pipeline, Pipeline.id == PipelineTrigger.pipeline_id)
        .where(
            PipelineTrigger.enabled,
            PipelineTrigger.type.in_([UPLOAD, PATTERN]),
            PipelineTrigger.config["zone_name"].astext == zone.name,
            func.coalesce(
                PipelineTrigger.config["namespace"].astext, Pipeline.namespace
            )
            == zone.namespace,
            Pipeline.deleted_at.is_(None),
        )
        .order_by(PipelineTrigger.id)
    )
    return list(tx.scalars(rows))


def label_of(trigger: PipelineTrigger) -> str:
    """What the runs of a file trigger are shown to be started by."""
    zone = f"{trigger.config.get('namespace')}/{trigger.config['zone_name']}"
    if trigger.type == PATTERN:
        return f"trigger:{PATTERN}:{zone}:{trigger.config['pattern']}"
    return f"trigger:lz_upload:{zone}"


def current_version(tx: Session, pipeline_id: uuid.UUID) -> uuid.UUID | None:
    """The version of a pipeline that the current release holds."""
    return tx.scalar(
        select(PipelineVersion.id)
        .where(
            PipelineVersion.pipeline_id == pipeline_id,
            PipelineVersion.release_number <= (releases.current(tx) or 0),
        )
        .order_by(PipelineVersion.version_number.desc())
        .limit(1)
    )


def newest_unconsumed(
    tx: Session,
    zone: Zone,
    *,
    trigger: PipelineTrigger,
    version_id: uuid.UUID | None,
) -> uuid.UUID | None:
    """The newest file of a zone that a trigger fires for and its pipeline may still claim."""
    files = tx.execute(
        select(LandingFile.id, LandingFile.filename)
        .outerjoin(
            LandingClaim,
            and_(
                LandingClaim.file_id == LandingFile.id,
                LandingClaim.pipeline_id == trigger.pipeline_id,
            ),
        )
        .where(
            LandingFile.zone_id == zone.id,
            LandingFile.state == FileState.PRESENT,
            LandingFile.moved_to.is_(None),
            or_(
                LandingClaim.state.is_(None),
                and_(
                    LandingClaim.state == ClaimState.WAITING,
                    LandingClaim.version_id.is_distinct_from(version_id),
                ),
            ),
        )
        .order_by(LandingFile.uploaded_at.desc(), LandingFile.id)
    )
    pattern = trigger.config.get("pattern")
    if not pattern:
        return files.scalars().first()
    # The whole name within the zone, or its last part: as a shell would, case and all.
    matches = re.compile(translate(pattern)).match
    return next(
        (id_ for id_, name in files if matches(name) or matches(name.split("/")[-1])),
        None,
    )


def fire(
    tx: Session, trigger: PipelineTrigger, *, label: str, reason: str, now: datetime
) -> Fired | None:
    """Wish for a trigger's pipeline; during its cooldown, for the end of it, once for all events."""
    tx.refresh(trigger, with_for_update=True)
    if tx.scalar(
        select(Wish.id).where(wishes.is_open(trigger.pipeline_id, label=label)).limit(1)
    ):
        return None
    due_at = now
    if trigger.last_triggered_at is not None:
        cooldown = timedelta(seconds=trigger.cooldown_seconds)
        due_at = max(now, trigger.last_triggered_at + cooldown)
    if not wishes.wish(
        tx, trigger.pipeline_id, label=label, reason=reason, due_at=due_at
    ):
        return None
    trigger.last_triggered_at = due_at
    tx.flush()
    return Fired(trigger.pipeline_id, label, due_at)
