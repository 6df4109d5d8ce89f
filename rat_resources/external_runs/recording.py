"""Recording: events of runs into `chm.runs`, as often as they are told.

One row a run, keyed by its pipeline and what the source calls it. A run that is over stays as it ended:
an event that says otherwise is ignored and counted, or rejected, as the policy has it. What an event
leaves out stays as it was; one that tells nothing new writes nothing.
"""

import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from sqlalchemy import ARRAY, BigInteger, Integer, Text, Uuid, bindparam, text
from sqlalchemy.orm import Session

from rat_resources.external_runs.events import RunEvent
from rat_resources.metadata.base import timestamptz
from rat_resources.metadata.zeros import as_json

Key = tuple[uuid.UUID, str]


class Policy(StrEnum):
    """What becomes of an event that would change how a run ended."""

    IGNORE = "ignore"  # it is counted; the run stays
    REJECT = "reject"  # it is an error of that event; the run stays


class Outcome(StrEnum):
    """What became of an event."""

    INSERTED = "inserted"
    UPDATED = "updated"
    UNCHANGED = "unchanged"  # a replay
    IGNORED = "ignored"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Told:
    """An event and the pipeline that it is about."""

    pipeline_id: uuid.UUID
    event: RunEvent

    @property
    def key(self) -> Key:
        """What makes it the same run."""
        return self.pipeline_id, self.event.external_run_id


@dataclass(frozen=True)
class Rejected:
    """An event that was not recorded: its place among those given, and why."""

    place: int
    reason: str


@dataclass(frozen=True)
class Recorded:
    """What became of some events."""

    outcomes: Mapping[Outcome, int] = field(default_factory=dict)
    rejected: tuple[Rejected, ...] = ()


def record(
    tx: Session, told: Sequence[Told], *, policy: Policy = Policy.IGNORE
) -> Recorded:
    """Write events, in their order where several are about one run; what became of each kind.

    Concurrent calls that overlap wait for each other: all take the runs in the order of their keys.
    """
    counts: Counter[Outcome] = Counter()
    rejected: list[Rejected] = []
    for wave in waves(told):
        for place, outcome, stays in write(tx, wave, policy=policy):
            counts[outcome] += 1
            if outcome is Outcome.REJECTED:
                status = wave[place].event.status
                why = f"the run is {stays}, which is final: it cannot become {status}"
                rejected.append(Rejected(place, why))
    return Recorded(counts, tuple(sorted(rejected, key=lambda one: one.place)))


def waves(told: Sequence[Told]) -> Iterator[dict[int, Told]]:
    """Events by their place, parted so that no run is in one wave twice.

    The first wave holds every run, so that no later one has to wait for a lock.
    """
    parted: list[dict[int, Told]] = []
    seen: Counter[Key] = Counter()
    for place, one in enumerate(told):
        turn = seen[one.key]
        seen[one.key] += 1
        if turn == len(parted):
            parted.append({})
        parted[turn][place] = one
    yield from parted


def write(
    tx: Session, wave: Mapping[int, Told], *, policy: Policy
) -> Iterator[tuple[int, Outcome, str]]:
    """Write one wave; the place of each event, its outcome, and the status that its run has now."""
    ids = {place: uuid.uuid4() for place in wave}
    places = {one.key: place for place, one in wave.items()}
    rows = tx.execute(UPSERT, columns(wave, ids=ids) | {"ignores": policy == "ignore"})
    written = {places[row.pipeline_id, row.external_run_id]: row for row in rows}
    for place, row in written.items():
        if row.id == ids[place]:
            yield place, Outcome.INSERTED, row.status
        elif row.status == wave[place].event.status:
            yield place, Outcome.UPDATED, row.status
        else:
            yield place, Outcome.IGNORED, row.status
    silent = {key: place for key, place in places.items() if place not in written}
    for key, status in held(tx, list(silent)).items():
        same = status == wave[silent[key]].event.status
        yield silent[key], Outcome.UNCHANGED if same else Outcome.REJECTED, status


def columns(
    wave: Mapping[int, Told], *, ids: Mapping[int, uuid.UUID]
) -> dict[str, list[object]]:
    """The values of a wave, column by column."""
    events = [one.event for one in wave.values()]
    return {
        "ids": [ids[place] for place in wave],
        "pipelines": [one.pipeline_id for one in wave.values()],
        "names": [each.external_run_id for each in events],
        "statuses": [each.status for each in events],
        "starts": [each.started_at for each in events],
        "ends": [each.finished_at for each in events],
        "durations": [each.duration_seconds for each in events],
        "rows": [each.rows_processed for each in events],
        "errors": [each.error_message for each in events],
        "reasons": [each.status_reason for each in events],
        "payloads": [
            None if each.payload is None else as_json(each.payload) for each in events
        ],
    }


def held(tx: Session, keys: Sequence[Key]) -> dict[Key, str]:
    """The statuses of runs that this transaction has locked, and so nobody changes."""
    if not keys:
        return {}
    rows = tx.execute(
        HELD,
        {"pipelines": [key[0] for key in keys], "names": [key[1] for key in keys]},
    )
    return {(row.pipeline_id, row.external_run_id): row.status for row in rows}


uuids, texts = ARRAY(Uuid()), ARRAY(Text())

# A conflicting row is locked, whether or not WHERE lets it be written.
UPSERT = text(
    """
    INSERT INTO chm.runs AS run (
        id, pipeline_id, external_run_id, status, started_at, finished_at,
        duration_seconds, rows_processed, error_message, status_reason, payload
    )
    SELECT
        id, pipeline_id, name, status::chm.run_status, started_at, finished_at,
        duration, row_count, error, reason, payload::jsonb
    FROM unnest(
        :ids, :pipelines, :names, :statuses, :starts, :ends, :durations, :rows, :errors,
        :reasons, :payloads
    ) AS given (
        id, pipeline_id, name, status, started_at, finished_at, duration, row_count, error,
        reason, payload
    )
    ORDER BY pipeline_id, name
    ON CONFLICT (pipeline_id, external_run_id) DO UPDATE SET (
        status, started_at, finished_at, duration_seconds, rows_processed,
        error_message, status_reason, payload, ingested_at
    ) = (
        SELECT
            merged.status, merged.started_at, merged.finished_at,
            COALESCE(merged.duration_seconds, CASE
                WHEN merged.finished_at - merged.started_at
                    BETWEEN interval '0' AND interval '2147483647 seconds'
                THEN floor(extract(epoch FROM merged.finished_at - merged.started_at))
            END),
            merged.rows_processed, merged.error_message, merged.status_reason,
            merged.payload, now()
        FROM (
            SELECT
                EXCLUDED.status,
                COALESCE(EXCLUDED.started_at, run.started_at) AS started_at,
                COALESCE(EXCLUDED.finished_at, run.finished_at) AS finished_at,
                COALESCE(EXCLUDED.duration_seconds, run.duration_seconds)
                    AS duration_seconds,
                COALESCE(EXCLUDED.rows_processed, run.rows_processed) AS rows_processed,
                COALESCE(EXCLUDED.error_message, run.error_message) AS error_message,
                COALESCE(EXCLUDED.status_reason, run.status_reason) AS status_reason,
                COALESCE(EXCLUDED.payload, run.payload) AS payload
            WHERE run.status IN ('running', EXCLUDED.status)
            UNION ALL
            SELECT
                run.status, run.started_at, run.finished_at, run.duration_seconds,
                run.rows_processed, run.error_message, run.status_reason, run.payload
            WHERE run.status NOT IN ('running', EXCLUDED.status)
        ) AS merged
    )
    WHERE CASE
        WHEN run.status NOT IN ('running', EXCLUDED.status) THEN :ignores
        ELSE (
            EXCLUDED.status, COALESCE(EXCLUDED.started_at, run.started_at),
            COALESCE(EXCLUDED.finished_at, run.finished_at),
            COALESCE(EXCLUDED.duration_seconds, run.duration_seconds),
            COALESCE(EXCLUDED.rows_processed, run.rows_processed),
            COALESCE(EXCLUDED.error_message, run.error_message),
            COALESCE(EXCLUDED.status_reason, run.status_reason),
            COALESCE(EXCLUDED.payload, run.payload)
        ) IS DISTINCT FROM (
            run.status, run.started_at, run.finished_at, run.duration_seconds,
            run.rows_processed, run.error_message, run.status_reason, run.payload
        )
    END
    RETURNING id, pipeline_id, external_run_id, status
    """
).bindparams(
    bindparam("ids", type_=uuids),
    bindparam("pipelines", type_=uuids),
    bindparam("names", type_=texts),
    bindparam("statuses", type_=texts),
    bindparam("starts", type_=ARRAY(timestamptz)),
    bindparam("ends", type_=ARRAY(timestamptz)),
    bindparam("durations", type_=ARRAY(Integer())),
    bindparam("rows", type_=ARRAY(BigInteger())),
    bindparam("errors", type_=texts),
    bindparam("reasons", type_=texts),
    bindparam("payloads", type_=texts),
)
HELD = text(
    """
    SELECT run.pipeline_id, run.external_run_id, run.status
    FROM chm.runs AS run
    JOIN unnest(:pipelines, :names) AS given (pipeline_id, name)
        ON run.pipeline_id = given.pipeline_id AND run.external_run_id = given.name
    """
).bindparams(
    bindparam("pipelines", type_=uuids),
    bindparam("names", type_=texts),
)
