"""Alert entries: what a table's materialization says of the alerts about it.

Which are raised is decided in `rat_assets.alerting` and by the sensor `alerts`; `rat alerts` lists them.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy.exc import SQLAlchemyError

from rat_assets.computation import Computation
from rat_assets.entries import Entries, as_table
from rat_resources.alerts import overview
from rat_resources.alerts.definitions import Definition
from rat_resources.errors import MetadataError

QUIET = "not raised"


def stand_of(work: Computation) -> Sequence[Mapping[str, str]]:
    """The alerts about a table, and which of them are raised now; nothing if Postgres is gone."""
    about = [each for each in work.alerts if each.table == work.name]
    if not about:
        return ()
    try:
        with work.platform.metadata.transaction() as tx:
            raised = overview.raised_of(tx, [each.id for each in about])
    except (MetadataError, SQLAlchemyError):
        return ()  # what was published is not to fail for it
    by_definition: dict[object, list[overview.Standing]] = {}
    for each in raised:
        by_definition.setdefault(each.definition_id, []).append(each)
    return [row_of(each, by_definition.get(each.id, [])) for each in about]


def row_of(
    definition: Definition, raised: Sequence[overview.Standing]
) -> Mapping[str, str]:
    """An alert as a row."""
    first = raised[0] if raised else None
    return {
        "alert": f"{definition.namespace}/{definition.name}",
        "severity": definition.severity,
        "raised": str(len(raised)) if raised else QUIET,
        "since": f"{first.since:%Y-%m-%d %H:%M:%S} UTC" if first else "",
        "what": first.title if first else "",
    }


def describe(stand: Sequence[Mapping[str, str]]) -> Entries:
    """How many alerts are raised, and each of them; nothing where there are none."""
    if not stand:
        return {}
    raised = sorted(stand, key=lambda each: each["raised"] == QUIET)
    count = sum(each["raised"] != QUIET for each in stand)
    return {"open_alerts": count, "alerts": as_table(raised)}
