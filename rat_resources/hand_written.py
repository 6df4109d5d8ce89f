"""The versions of hand-written assets: a row like any pipeline's, written when one first runs.

Their code is the project's own module, so there is nothing to publish beforehand; what was run is
kept all the same, and changes of it are releases.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from rat_resources import releases
from rat_resources.errors import AssetError, Problem
from rat_resources.metadata import Metadata
from rat_resources.metadata.pipelines import Pipeline, PipelineVersion
from rat_resources.names import TableName
from rat_resources.releases import Change, PublishedPipeline
from rat_resources.specs import Parsed, PipelineSpec
from rat_resources.store import Store, object_name
from rat_resources.validation import judge

RENAME = "rename one of the two"


def register(
    metadata: Metadata, store: Store, parsed: Parsed, *, run_by: str = ""
) -> PublishedPipeline:
    """The version of the code that is about to run; made where it is new, by a release.

    Doing it again changes nothing.
    """
    table = parsed.spec.table
    kept = releases.keep_files(store, parsed.source)
    files = {name: each.name for name, each in kept.items()}
    with metadata.transaction() as tx:
        for found in releases.load(tx, only=[table]):
            if (found.spec, found.files) == (parsed.spec, files):
                return found
    with metadata.transaction() as tx:
        number = releases.lock_pointer(tx)
        before = {each.spec.table: each for each in releases.load(tx)}
        refuse_misfits([parsed], published=specs_of(before.values()))
        change = Change(
            message=f"{parsed.spec.hand_written} was run",
            published_by=run_by,
            action="pipeline.publish",
        )
        releases.make_current(
            tx, store, change, number=number, parsed=[parsed], before=before
        )
        return releases.load(tx, only=[table])[0]


def spec_of(
    files: Mapping[str, str], *, published: PublishedPipeline | None
) -> PipelineSpec | None:
    """What these files mean, where they are what was published."""
    if published is None:
        return None
    names = {name: object_name(each.encode()) for name, each in files.items()}
    return published.spec if names == published.files else None


def specs_of(
    pipelines: Iterable[PublishedPipeline],
) -> dict[TableName, PipelineSpec]:
    """What published pipelines mean, by their tables."""
    return {each.spec.table: each.spec for each in pipelines}


def refuse_misfits(
    parsed: Sequence[Parsed], *, published: Mapping[TableName, PipelineSpec]
) -> None:
    """AssetError when hand-written assets do not fit together with what is published."""
    if not parsed:
        return  # the usual case, and judging thousands of pipelines takes its time
    problems = [*collisions(parsed, published=published)]
    if not problems:
        # Whether a table that is read exists is known when it is read.
        judgement = judge(parsed, current=published, table_exists=lambda _: True)
        problems = [*judgement.problems]
    if problems:
        raise AssetError(problems)


def collisions(
    parsed: Iterable[Parsed], *, published: Mapping[TableName, PipelineSpec]
) -> Iterator[Problem]:
    """Hand-written assets whose tables somebody else writes."""
    seen: dict[TableName, str] = {}
    for each in parsed:
        table, place = each.spec.table, each.spec.hand_written
        at = each.code_place
        other = seen.setdefault(table, place)
        if other != place:
            yield Problem(
                at.path, at.line, f"{place} and {other} both write {table}", RENAME
            )
        if table in published and not published[table].hand_written:
            what = f"{place} writes {table}, and a published pipeline does so too"
            yield Problem(at.path, at.line, what, RENAME)


def retire_missing(metadata: Metadata, *, known: Collection[TableName]) -> list[str]:
    """Retire the hand-written assets that the code no longer has, and say so; their tables stay."""
    with metadata.transaction() as tx:
        gone = sorted(current(tx) - set(known))
        for table in gone:
            releases.retire(tx, [table], message="it is no longer in the code")
    return [f"{table}: retired, the code no longer has it" for table in gone]


def current(tx: Session) -> set[TableName]:
    """The hand-written assets that have a version and are not retired."""
    written = select(PipelineVersion.pipeline_id).where(
        PipelineVersion.spec["hand_written"].astext != ""
    )
    rows = tx.execute(
        select(Pipeline.namespace, Pipeline.layer, Pipeline.name).where(
            Pipeline.deleted_at.is_(None), Pipeline.id.in_(written)
        )
    )
    return {TableName(*row) for row in rows}
