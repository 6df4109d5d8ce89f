"""Jobs: what a sensor, a schedule or a person launches. What each pipeline does is `rat_assets`."""

from collections.abc import Sequence

import dagster as dg
from dagster._core.definitions.target import ExecutableDefinition

PIPELINES = "pipelines"
REPORTS = "reports"


def pipelines_job(keys: Sequence[dg.AssetKey]) -> ExecutableDefinition:
    """The job of all pipelines, of which every run takes the part that it needs."""
    return dg.define_asset_job(
        PIPELINES,
        selection=dg.AssetSelection.assets(*keys),
        description="Run pipelines: branch, compile, write, test and publish each.",
        executor_def=dg.in_process_executor,
    )


def reports_job(keys: Sequence[dg.AssetKey]) -> ExecutableDefinition:
    """The job that draws the platform's reports."""
    return dg.define_asset_job(
        REPORTS,
        selection=dg.AssetSelection.assets(*keys),
        description="Draw the platform's reports: what Postgres knows, as pictures.",
        executor_def=dg.in_process_executor,
    )
