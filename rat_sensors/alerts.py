"""The alerts sensor: tells of failed runs, of what is late, and of what CHM's rules are about.

What a publication gives rise to, its run tells; what a tick looks at is `rat_resources.alerts.watch`.
"""

import dagster as dg

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
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        """Look once."""
        whole = context.resources.platform
        added = tick(whole.metadata, head=lambda: whole.lake.refs.head(MAIN), ask=ask)
        return dg.SkipReason(
            f"{added} alerts were told" if added else "nothing to tell"
        )

    return alerts
