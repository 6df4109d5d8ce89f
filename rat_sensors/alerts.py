"""The alerts sensor: tells of failed runs, of what is late, and of what CHM's rules are about.

What a publication gives rise to, its run tells; what a tick looks at is `rat_resources.alerts.watch`.
"""

import dagster as dg

from rat_resources.alerts.observations import observe
from rat_resources.alerts.watch import Ask, tick
from rat_resources.lake.refs import MAIN


def build_alerts_sensor(ask: Ask) -> dg.SensorDefinition:
    """The sensor; *ask* runs the queries and functions of alerts that are about no one table."""

    @dg.sensor(
        name="alerts",
        description="Tells of runs that failed, of tables that are late, and of missing runs.",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"platform"},
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        """Look once."""
        whole = context.resources.platform
        added = tick(whole.metadata, head=lambda: whole.lake.refs.head(MAIN), ask=ask)
        with whole.metadata.transaction() as tx:
            changed, cursor = observe(tx, context.cursor)
        said = f"{added} alerts were told" if added else "nothing to tell"
        return dg.SensorResult(skip_reason=said, asset_events=changed, cursor=cursor)

    return alerts
