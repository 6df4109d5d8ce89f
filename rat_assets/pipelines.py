"""Pipelines as assets: a published pipeline is one asset, its tests are the asset's checks.

What happens when one runs is `rat_assets.steps` and `rat_assets.phases`.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dagster as dg
from dagster._core.storage.tags import PRIORITY_TAG

from rat_assets.actions import user
from rat_assets.entries import Entries, as_code
from rat_assets.hand_written import LakeAsset
from rat_assets.landing import owners_of, zone_key
from rat_assets.quality import check_specs
from rat_assets.steps import StepEvent, asset_key, run_step
from rat_assets.words import say_strategy, say_when
from rat_resources import hand_written
from rat_resources.errors import Problem
from rat_resources.names import TableName, dagster_name, op_name
from rat_resources.platform import Platform
from rat_resources.releases import PublishedPipeline
from rat_resources.specs import PipelineSpec, QualityTest

TESTS_SHOWN = 100


def build_asset(
    pipeline: PublishedPipeline,
    *,
    release: int,
    turn: int = 0,
    shown: Entries | None = None,
) -> dg.AssetsDefinition:
    """The asset that a published pipeline is; of those that may run, the first in *turn* does."""

    def run(context: dg.AssetExecutionContext) -> Iterator[StepEvent]:
        return run_step(context, pipeline, release=release)

    return make_asset(pipeline.spec, run=run, turn=turn, shown=shown)


def build_lake_asset(
    asset: LakeAsset,
    *,
    release: int,
    turn: int = 0,
    spec: PipelineSpec | None = None,
    shown: Entries | None = None,
) -> dg.AssetsDefinition:
    """The asset that a function is; its version is written when it runs.

    Whoever knows its *spec* already spares reading it.
    """

    def run(context: dg.AssetExecutionContext) -> Iterator[StepEvent]:
        whole: Platform = context.resources.platform
        pipeline = hand_written.register(
            whole.metadata, whole.store, asset.parsed, run_by=user()
        )
        return run_step(context, pipeline, release=release, body=asset.body)

    return make_asset(spec or asset.parsed.spec, run=run, turn=turn, shown=shown)


def make_asset(
    spec: PipelineSpec,
    *,
    run: Callable[[dg.AssetExecutionContext], Iterator[StepEvent]],
    turn: int,
    shown: Entries | None = None,
) -> dg.AssetsDefinition:
    """An asset of one step, and the checks that are its tests; *shown* is known of it besides."""
    key = asset_key(spec.table)

    @dg.multi_asset(
        name=op_name(spec.table),
        specs=[asset_spec(spec, shown=shown)],
        check_specs=check_specs(spec.checks, key=key),
        required_resource_keys={"platform"},
        # Not a dependency: a table is not to be left out where one that its tests read fails.
        op_tags={PRIORITY_TAG: str(-turn)},
    )
    def step(context: dg.AssetExecutionContext) -> Iterator[StepEvent]:
        yield from run(context)

    return step


def asset_spec(spec: PipelineSpec, *, shown: Entries | None = None) -> dg.AssetSpec:
    """What Dagster shows of a pipeline before it ever ran."""
    table = spec.table
    return dg.AssetSpec(
        asset_key(table),
        deps=[
            *(asset_key(ref) for ref in spec.refs),
            *sorted({zone_key(table.namespace, zone.name) for zone in spec.zones}),
        ],
        # A step that publishes nothing must yield nothing.
        skippable=True,
        description=describe_table(spec),
        group_name=group_of(table),
        owners=owners_of(spec.owner),
        tags={"rat/namespace": table.namespace, "rat/layer": table.layer},
        kinds={table.layer, "iceberg", "duckdb", spec.type},
        code_version=spec.code_version,
        metadata={**describe_spec(spec), **(shown or {})},
    )


def describe_table(spec: PipelineSpec) -> str:
    """What a table is, what writes it and when, as Markdown: the first that Dagster shows of it."""
    facts = f"- **writes:** {say_strategy(spec.config)}\n- **runs:** {say_when(spec)}"
    return f"{spec.description}\n\n{facts}" if spec.description else facts


def describe_spec(spec: PipelineSpec) -> dict[str, Any]:
    """Where a table is, its tests and its code, before it was ever written."""
    shown: dict[str, Any] = {"dagster/table_name": str(spec.table)}
    if spec.hand_written:
        shown["written_by_hand"] = spec.hand_written
    if spec.tests:
        shown["quality_tests"] = dg.MetadataValue.md(
            "\n".join(list_tests(spec.tests, table=spec.table))
        )
    if spec.excerpt:
        shown["template"] = as_code(spec.excerpt, language=spec.type)
    return shown


def list_tests(tests: Sequence[QualityTest], *, table: TableName) -> Iterator[str]:
    """The first tests as a list in Markdown; all of them are checks of the asset."""
    for test in tests[:TESTS_SHOWN]:
        yield f"- {link_test(test, table=table)}"
    more = len(tests) - TESTS_SHOWN
    if more > 0:
        yield f"- … and {more:,} more"


def link_test(test: QualityTest, *, table: TableName) -> str:
    """A test in one line of Markdown, with a link to its results."""
    page = f"/assets/{'/'.join(table.key)}?view=checks&checkDetail={dagster_name(test.name)}"
    about = f": {test.description}" if test.description else ""
    return f"[{test.name}]({page}) ({test.severity}){about}"


def group_of(table: TableName) -> str:
    """The group of a table in Dagster: namespace and layer."""
    return dagster_name(f"{table.namespace}/{table.layer}")


def try_build(specs: Sequence[PipelineSpec]) -> list[Problem]:
    """What Dagster itself would refuse of *specs*, found by building the very assets it would load."""
    problems = []
    for spec in specs:
        try:
            asset_spec(spec)
            check_specs(spec.checks, key=asset_key(spec.table))
        except Exception as error:  # noqa: BLE001 - whatever Dagster refuses, its author shall read
            path = (
                f"{spec.table.namespace}/pipelines/{spec.table.layer}/{spec.table.name}"
            )
            what = f"Dagster refuses it: {error}"
            problems.append(
                Problem(f"{path}/{spec.code_file}", 1, what, "change what it names")
            )
    return problems


def broken_asset(table: TableName, *, error: Exception) -> dg.AssetSpec:
    """What stands in for a pipeline that no longer builds, so that the rest loads."""
    return dg.AssetSpec(
        asset_key(table),
        group_name=group_of(table),
        description=f"**This release does not build**: {error}",
        kinds={"broken"},
    )
