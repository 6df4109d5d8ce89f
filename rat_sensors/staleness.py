"""The staleness sensor: tells Dagster when a table has become stale, and when it is no longer.

What is stale is `rat_resources.staleness`, by one query. The cursor is what was told: where nothing
has changed, nothing is told again.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import dagster as dg

from rat_resources import graph, runs, staleness
from rat_resources.metadata import Metadata
from rat_resources.names import TableName
from rat_resources.staleness import Stale

# What follows a publication by itself is current again before that.
PATIENCE = timedelta(minutes=1)
AT_ONCE = 200  # observations a tick
CAUSES = 20

Told = Mapping[str, str]


def build_staleness_sensor(written: Collection[TableName]) -> dg.SensorDefinition:
    """The sensor of a code location that has what is *written* by hand."""

    @dg.sensor(
        name="staleness",
        description="Tells when a table has become older than what it is made from, and why.",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"metadata"},
    )
    def stale(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        told: Told = json.loads(context.cursor or "{}")
        due = find_due(context.resources.metadata, written=written)
        changed = list(changes(told, due))[:AT_ONCE]
        return dg.SensorResult(
            asset_events=[observe(table, due.get(table)) for table in changed],
            skip_reason=f"{len(due)} tables are stale, {len(changed)} of them news",
            cursor=json.dumps(tell(told, due, changed)),
        )

    return stale


def find_due(
    metadata: Metadata, *, written: Collection[TableName]
) -> dict[TableName, Stale]:
    """What has been stale for a while, of the assets that this code location has."""
    with metadata.transaction() as tx:
        stale = staleness.load(tx)
        if not stale:
            return {}
        before = runs.database_time(tx) - PATIENCE
        known = {
            each.table
            for each in graph.outlines(tx)
            if not each.hand_written or each.table in written
        }
    # What was never made Dagster shows as that.
    return {
        table: each
        for table, each in stale.items()
        if table in known and each.made_at is not None and each.since < before
    }


def changes(told: Told, due: Mapping[TableName, Stale]) -> Iterator[TableName]:
    """The tables of which another thing was told."""
    for table, each in due.items():
        if told.get(str(table)) != mark(each):
            yield table
    for name in told:
        if (table := TableName.parse(name)) not in due:
            yield table


def tell(
    told: Told, due: Mapping[TableName, Stale], changed: Collection[TableName]
) -> dict[str, str]:
    """What will have been told once these changes are."""
    after = dict(told)
    for table in changed:
        after.pop(str(table), None)
        if table in due:
            after[str(table)] = mark(due[table])
    return after


def mark(stale: Stale) -> str:
    """What tells this state of a table from another."""
    said = json.dumps(stale.to_json(), sort_keys=True)
    return sha256(said.encode()).hexdigest()[:12]


def observe(table: TableName, stale: Stale | None) -> dg.AssetObservation:
    """The state of a table, as Dagster's log keeps it."""
    key = dg.AssetKey(table.key)
    if stale is None:
        return dg.AssetObservation(
            key,
            description="no longer stale",
            metadata={"stale": dg.MetadataValue.bool(False)},
        )
    causes = [
        dg.TableRecord(
            {
                "why": each.why.value,
                "input": each.input or "",
                "since": shown(each.since),
            }
        )
        for each in stale.causes[:CAUSES]
    ]
    return dg.AssetObservation(
        key,
        description=f"stale since {shown(stale.since)}: {stale.words}",
        metadata={
            "stale": dg.MetadataValue.bool(True),
            "stale_since": dg.MetadataValue.timestamp(stale.since),
            "stale_because": dg.MetadataValue.text(stale.words),
            "stale_causes": dg.MetadataValue.table(causes),
        },
    )


def shown(time: datetime) -> str:
    """A time, to the second."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
