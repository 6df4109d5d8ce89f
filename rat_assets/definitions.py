"""The code location: the current release as assets, and everything that runs them.

This module and `rat_assets.cli` are the only ones that see all three packages. The release that a
run was launched with is the one that its worker builds, whatever was published meanwhile.
"""

import gc
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import dagster as dg
from dagster._core.definitions.definitions_load_context import (
    DefinitionsLoadContext,
    DefinitionsLoadType,
)
from sqlalchemy import select

from rat_assets import (
    actions,
    alert_code,
    alerts,
    cleaning,
    clients,
    external_runs,
    invalidating,
    maintaining,
)
from rat_assets.entries import Entries
from rat_assets.hand_written import LakeAsset, collect
from rat_assets.impact_entries import describe_impact
from rat_assets.landing import zone_specs
from rat_assets.pipelines import broken_asset, build_asset, build_lake_asset
from rat_assets.reports.platform import report_assets
from rat_assets.reports.star import star_assets
from rat_resources import graph, hand_written, impact, releases
from rat_resources.metadata.landing import LandingZone
from rat_resources.names import TableName
from rat_resources.platform import Platform, platform
from rat_resources.reconciliation import reconcile
from rat_resources.releases import PublishedPipeline
from rat_resources.runs import RELEASE_TAG
from rat_resources.specs import PipelineSpec
from rat_resources.wiring import resources
from rat_sensors.alerts import build_alerts_sensor
from rat_sensors.deliveries import deliveries
from rat_sensors.external_runs import build_files_sensor, build_sync_schedule
from rat_sensors.janitor import janitor
from rat_sensors.jobs import pipelines_job, reports_job
from rat_sensors.maintenance import maintenance_schedule
from rat_sensors.mirror import mirror
from rat_sensors.reports import reports_schedule
from rat_sensors.star import star_job, star_schedule
from rat_sensors.wiring import build_sensors


@dg.definitions
def defs() -> dg.Definitions:
    """The current release, or the one that this process was launched for."""
    return definitions()


def definitions(assets: Sequence[LakeAsset] = ()) -> dg.Definitions:
    """The release and the hand-written *assets*, to be merged with a project's other definitions."""
    if collect(assets):
        return dg.Definitions()
    whole = platform()
    # All of it lives as long as the process: to look through a thousand pipelines at each collection
    # of garbage is a third of what building them costs, and half of what their snapshot does.
    gc.disable()
    try:
        built = build_definitions(whole, release=pinned_release(whole), written=assets)
        gc.freeze()
    finally:
        gc.enable()
    return built


def pinned_release(whole: Platform) -> int:
    """The release that this load builds, the same in every process of a run."""
    context = DefinitionsLoadContext.get()
    pinned = context.reconstruction_metadata if is_reconstruction(context) else {}
    if RELEASE_TAG in pinned:
        return int(pinned[RELEASE_TAG])
    with whole.metadata.transaction() as tx:
        release = releases.current(tx) or 0
    context.add_to_pending_reconstruction_metadata(RELEASE_TAG, str(release))
    return release


def is_reconstruction(context: DefinitionsLoadContext) -> bool:
    """Whether this process rebuilds what another process loaded."""
    return context.load_type is DefinitionsLoadType.RECONSTRUCTION


def build_definitions(
    whole: Platform,
    *,
    release: int,
    only: Collection[TableName] | None = None,
    written: Sequence[LakeAsset] = (),
) -> dg.Definitions:
    """A release and what is *written* by hand as Dagster's definitions; with *only*, just these."""
    with whole.metadata.transaction() as tx:
        pipelines = releases.load(tx, release=release, only=only)
        zones = list(tx.scalars(select(LandingZone).where(LandingZone.active)))
        # A command shows nobody a page.
        figures = impact.figures(tx) if only is None else None
    chosen = [each for each in written if only is None or each.table in only]
    hand_written.refuse_misfits(
        [each.parsed for each in chosen], published=hand_written.specs_of(pipelines)
    )
    # Of what is written by hand the code is right, whatever a release holds.
    published = [each for each in pipelines if not each.spec.hand_written]
    specs = [each.spec for each in published]
    specs += [each.parsed.spec for each in chosen]
    turns = turns_of(specs)
    shown = describe_impact(specs, figures) if figures is not None else {}
    assets, broken = build_assets(published, release=release, turns=turns, shown=shown)
    assets += [
        build_lake_asset(
            each, release=release, turn=turns[each.table], shown=shown.get(each.table)
        )
        for each in chosen
    ]
    runnable = [key for asset in assets for key in asset.keys]
    job = pipelines_job(runnable)
    # What a command runs is some pipelines and nothing else.
    reports = report_assets() if only is None else []
    drawing = reports_job([each.key for each in reports])
    star = build_star(pipelines, release=release) if only is None else []
    exporting = star_job([each.key for each in star])
    jobs: list[Any] = [
        *actions.jobs(),
        cleaning.clean_job,
        maintaining.maintain_job,
        invalidating.invalidate_job,
        *clients.jobs(),
        *alerts.jobs(),
        *external_runs.jobs(),
        *([job] if runnable else []),
        *([drawing] if reports else []),
        *([exporting] if star else []),
    ]
    # A command neither watches nor waits.
    clocks = [reports_schedule(drawing)] if reports else []
    watchers: list[dg.SensorDefinition] = []
    if only is None:
        clocks.append(build_sync_schedule(external_runs.sync_job))
        clocks.append(star_schedule(exporting))
        clocks.append(maintenance_schedule(maintaining.maintain_job, op=maintaining.OP))
        watchers = [
            mirror,
            janitor,
            build_files_sensor(external_runs.ingest_job),
            build_alerts_sensor(partial(alert_code.ask_main, whole)),
            deliveries,
        ]
    if runnable and only is None:
        watchers += build_sensors(
            job, reconcile=reconcile_tick, written=[each.table for each in written]
        )
    return dg.Definitions(
        assets=[*assets, *broken, *zone_specs(zones), *reports, *star],
        jobs=jobs,
        schedules=clocks,
        sensors=watchers,
        resources=dict(resources()),
        executor=dg.in_process_executor,
    )


def build_star(
    pipelines: Sequence[PublishedPipeline], *, release: int
) -> list[dg.AssetsDefinition]:
    """The tables that RAT brings along; apart from the pipelines, so that nothing asks for them."""
    known = {each.spec.table: each for each in pipelines}
    return [
        build_lake_asset(
            each,
            release=release,
            turn=turn,
            # To read seven of them takes a tenth of what a hundred pipelines take to load.
            spec=hand_written.spec_of(each.files, published=known.get(each.table)),
        )
        for turn, each in enumerate(star_assets())
    ]


def report_definitions() -> dg.Definitions:
    """The platform's reports alone."""
    reports = report_assets()
    jobs: list[Any] = [reports_job([each.key for each in reports])]
    return dg.Definitions(
        assets=reports,
        jobs=jobs,
        resources=dict(resources()),
    )


def reconcile_tick(context: dg.SensorEvaluationContext) -> str:
    """Finish or undo what a crash left open; what was done."""
    return "; ".join(reconcile(context.resources.platform, context.instance))


def turns_of(specs: Sequence[PipelineSpec]) -> Mapping[TableName, int]:
    """When each pipeline comes in a run of all: after what it reads, and what its tests read."""
    reads = {spec.table: spec.refs for spec in specs}
    tested = {spec.table: spec.test_refs for spec in specs}
    in_order = graph.in_order_of_tests(reads, tested=tested)
    return {table: turn for turn, table in enumerate(in_order)}


def build_assets(
    pipelines: Sequence[PublishedPipeline],
    *,
    release: int,
    turns: Mapping[TableName, int],
    shown: Mapping[TableName, Entries],
) -> tuple[list[dg.AssetsDefinition], list[Any]]:
    """The assets of a release, and stand-ins for those that no longer build."""
    assets: list[dg.AssetsDefinition] = []
    broken = []
    for pipeline in pipelines:
        try:
            table = pipeline.spec.table
            asset = build_asset(
                pipeline, release=release, turn=turns[table], shown=shown.get(table)
            )
            assets.append(asset)
        except Exception as error:  # noqa: BLE001 - one bad pipeline must not take the others down
            broken.append(broken_asset(pipeline.spec.table, error=error))
    return assets, broken
