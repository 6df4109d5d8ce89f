"""Plans: what publishing a folder tree would change, with nothing published.

Everything is read and judged by what `releases` publishes with. The words for it are
`differences`, and what becomes of columns is `rat_assets.forecast`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from rat_resources import declarations, graph, releases
from rat_resources.declarations import DESCRIBED
from rat_resources.differences import Zones, describe, describe_zones
from rat_resources.errors import Problem
from rat_resources.metadata import Metadata
from rat_resources.metadata.landing import LandingZone
from rat_resources.names import TableName
from rat_resources.releases import Check, PublishedPipeline, Release
from rat_resources.specs import Parsed, PipelineSource, PipelineSpec, parse_pipeline
from rat_resources.store import Store, object_name
from rat_resources.stored_trees import read_stored
from rat_resources.trees import Tree, read_tree
from rat_resources.validation import named_zones


@dataclass(frozen=True)
class Plan:
    """What a publish would come to."""

    release: Release
    zones: tuple[str, ...]  # what changes in landing zones, in words
    parsed: Mapping[TableName, Parsed]  # what the tree holds
    current: Mapping[TableName, PublishedPipeline]
    words: Mapping[TableName, tuple[str, ...]]  # what changes in each changed pipeline
    tree: Path | None  # None: it is in S3
    warnings: tuple[Problem, ...]

    @property
    def is_empty(self) -> bool:
        """Whether everything is current as it is."""
        return not self.release.is_new and not self.zones

    @property
    def specs(self) -> dict[TableName, PipelineSpec]:
        """All pipelines as they would be."""
        before = {table: each.spec for table, each in self.current.items()}
        return before | {table: each.spec for table, each in self.parsed.items()}

    @property
    def reads(self) -> dict[TableName, tuple[TableName, ...]]:
        """Who would read whom."""
        return {table: spec.refs for table, spec in self.specs.items()}

    @property
    def rewritten(self) -> list[TableName]:
        """The pipelines whose rows would be other ones, each after what it reads."""
        changed = {
            table
            for table in self.release.changed
            if self.parsed[table].spec.code_version
            != self.current[table].spec.code_version
        }
        chosen = changed | set(self.release.created)
        return [table for table in graph.in_order(self.reads) if table in chosen]

    @property
    def following(self) -> list[TableName]:
        """The pipelines that read those, directly or through others, likewise."""
        rewritten = set(self.rewritten)
        follow = graph.downstream(self.reads, of=rewritten) - rewritten
        return [table for table in graph.in_order(self.reads) if table in follow]


def plan(
    metadata: Metadata,
    store: Store,
    folder: Path | None = None,
    *,
    check: Check = releases.no_problems,
    table_exists: Callable[[TableName], bool] = releases.no_table,
) -> Plan:
    """What publishing *folder* (what the store holds) would change; PublishError as there."""
    tree = read_tree(folder) if folder else read_stored(store)
    parsed = [parse_pipeline(source) for source in tree.sources]
    with metadata.transaction() as tx:
        number = releases.current(tx) or 0
        before = {each.spec.table: each for each in releases.load(tx)}
        warnings = releases.validate(
            tx, tree, parsed, before=before, check=check, table_exists=table_exists
        )
        files = {each.spec.table: name_files(each.source) for each in parsed}
        release = releases.compare(number, parsed=parsed, files=files, before=before)
        alerts = releases.change_alerts(tx, tree, before=before)
        release = releases.with_alerts(release, alerts)
        missing = releases.left_out(parsed, before=before) if folder else ()
        by_table = {each.spec.table: each for each in parsed}
        return Plan(
            replace(release, left_out=missing),
            change_zones(tx, tree, parsed=by_table, before=before),
            by_table,
            before,
            {
                table: tuple(
                    describe(
                        releases.read_source(store, before[table]),
                        before[table].spec,
                        after=by_table[table],
                    )
                )
                for table in release.changed
            },
            folder or (store.root if isinstance(store.root, Path) else None),
            warnings,
        )


def name_files(source: PipelineSource) -> dict[str, str]:
    """The objects that the files of *source* would be kept as."""
    return {
        name: object_name(content.encode())
        for name, content in sorted(source.files.items())
    }


def change_zones(
    tx: Session,
    tree: Tree,
    *,
    parsed: Mapping[TableName, Parsed],
    before: Mapping[TableName, PublishedPipeline],
) -> tuple[str, ...]:
    """Which landing zones would come, go, or be described otherwise."""
    specs = {table: each.spec for table, each in before.items()}
    specs |= {table: each.spec for table, each in parsed.items()}
    attempt = tx.begin_nested()
    try:
        names = sorted({table.namespace for table in specs})
        releases.add_namespaces(tx, names, created_by="")
        old = read_zones(tx)
        declarations.write_zones(
            tx, named=named_zones(specs.values()), described=tree.zones
        )
        return tuple(describe_zones(old, after=read_zones(tx)))
    finally:
        attempt.rollback()  # it was only asked


def read_zones(tx: Session) -> Zones:
    """What Postgres has about every landing zone."""
    said = ("active", *DESCRIBED)
    return {
        f"{zone.namespace}/{zone.name}": {key: getattr(zone, key) for key in said}
        for zone in tx.scalars(select(LandingZone))
    }
