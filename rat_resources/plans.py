"""Plans: what publishing a folder tree would change, said in words, with nothing published.

Everything is read and judged by what `releases` publishes with. What becomes of columns is
`rat_assets.forecast`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from rat_resources import declarations, graph, releases
from rat_resources.errors import Problem
from rat_resources.metadata import Metadata
from rat_resources.names import TableName
from rat_resources.releases import Check, PublishedPipeline, Release
from rat_resources.specs import (
    CONFIG,
    Parsed,
    PipelineSource,
    PipelineSpec,
    QualityTest,
    bare_code,
    parse_pipeline,
)
from rat_resources.store import Store, object_name
from rat_resources.trees import Tree, read_tree
from rat_resources.validation import named_zones

LONGEST = 60  # of a value that is shown


@dataclass(frozen=True)
class Plan:
    """What a publish would come to."""

    release: Release
    zones_change: bool
    parsed: Mapping[TableName, Parsed]  # what the tree holds
    current: Mapping[TableName, PublishedPipeline]
    words: Mapping[TableName, tuple[str, ...]]  # what changes in each changed pipeline
    tree: Path
    warnings: tuple[Problem, ...]

    @property
    def is_empty(self) -> bool:
        """Whether everything is current as it is."""
        return not self.release.is_new and not self.zones_change

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
    root = folder or store.root
    tree = read_tree(root)
    parsed = [parse_pipeline(source) for source in tree.sources]
    with metadata.transaction() as tx:
        number = releases.current(tx) or 0
        before = {each.spec.table: each for each in releases.load(tx)}
        warnings = releases.validate(
            tree, parsed, before=before, check=check, table_exists=table_exists
        )
        files = {each.spec.table: name_files(each.source) for each in parsed}
        release = releases.compare(number, parsed=parsed, files=files, before=before)
        by_table = {each.spec.table: each for each in parsed}
        return Plan(
            release,
            would_change_zones(tx, tree, parsed=by_table, before=before),
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
            root,
            warnings,
        )


def name_files(source: PipelineSource) -> dict[str, str]:
    """The objects that the files of *source* would be kept as."""
    return {
        name: object_name(content.encode())
        for name, content in sorted(source.files.items())
    }


def would_change_zones(
    tx: Session,
    tree: Tree,
    *,
    parsed: Mapping[TableName, Parsed],
    before: Mapping[TableName, PublishedPipeline],
) -> bool:
    """Whether a landing zone would come, go, or be described otherwise."""
    specs = {table: each.spec for table, each in before.items()}
    specs |= {table: each.spec for table, each in parsed.items()}
    attempt = tx.begin_nested()
    try:
        names = sorted({table.namespace for table in specs})
        releases.add_namespaces(tx, names, created_by="")
        return declarations.write_zones(
            tx, named=named_zones(specs.values()), described=tree.zones
        )
    finally:
        attempt.rollback()  # it was only asked


# What changes in one pipeline.


def describe(
    source: PipelineSource, before: PipelineSpec, *, after: Parsed
) -> Iterator[str]:
    """What changes between two states of a pipeline, in words."""
    words = [
        *describe_code(source, after=after.source),
        *describe_reads(before, after=after.spec),
        *describe_config(before, after=after.spec),
        *describe_tests(source, before, after=after),
        *describe_files(source, after=after.source),
    ]
    if not words and source.files.get(CONFIG) != after.source.files.get(CONFIG):
        words.append(f"{CONFIG}, and not what it means")
    yield from words or ["understood anew by this version of RAT"]


def describe_code(source: PipelineSource, *, after: PipelineSource) -> Iterator[str]:
    """What changes in the code."""
    if source.code_file != after.code_file:
        yield f"{source.code_file} becomes {after.code_file}"
    elif bare_code(source) != bare_code(after):
        yield "the query" if after.type == "sql" else "the script"
    elif source.code != after.code:
        yield f"comments of {after.code_file}"


def describe_reads(before: PipelineSpec, *, after: PipelineSpec) -> Iterator[str]:
    """What it would read, and no longer read."""
    yield from (f"reads {ref}" for ref in after.refs if ref not in before.refs)
    yield from (
        f"reads {ref} no longer" for ref in before.refs if ref not in after.refs
    )


def describe_config(before: PipelineSpec, *, after: PipelineSpec) -> Iterator[str]:
    """What changes in the configuration, key by key."""
    old, new = asdict(before.config), asdict(after.config)
    for key in new:
        if old[key] != new[key]:
            yield f"{key}: {brief(old[key])} → {brief(new[key])}"


def brief(value: object) -> str:
    """A configuration value in a line."""
    if value is None or value in ("", (), [], {}):
        return "nothing"
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= LONGEST and text.isprintable() else "…"


def describe_tests(
    source: PipelineSource, before: PipelineSpec, *, after: Parsed
) -> Iterator[str]:
    """Which tests come, go and change."""
    old = {test.name: test for test in before.tests}
    new = {test.name: test for test in after.spec.tests}
    yield from (f"new test {name}" for name in new if name not in old)
    yield from (f"test {name} goes" for name in old if name not in new)
    for name in new.keys() & old.keys():
        texts = text_of(source, old[name]), text_of(after.source, new[name])
        if old[name] != new[name] or texts[0] != texts[1]:
            yield f"test {name}"


def text_of(source: PipelineSource, test: QualityTest) -> str | None:
    """The text of a test that has a file."""
    return source.files.get(test.path)


def describe_files(source: PipelineSource, *, after: PipelineSource) -> Iterator[str]:
    """Files whose change means nothing to a run."""
    told = {source.code_file, after.code_file, *source.test_files, *after.test_files}
    names = (source.files.keys() | after.files.keys()) - told - {CONFIG}
    for name in sorted(names):
        if source.files.get(name) != after.files.get(name):
            yield f"the file {name}"
