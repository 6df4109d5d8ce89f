"""Drafts: a pipeline as its author has it in a working tree, or as it is published.

Reading one refuses what publishing it would refuse, by file and line. What a draft returns is
`rat_assets.rehearsal`.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rat_resources import releases, trees
from rat_resources.errors import DraftError, NotFoundError, Problem
from rat_resources.landing import Zone
from rat_resources.names import LAYERS, TableName, is_name, nearest
from rat_resources.platform import Platform
from rat_resources.releases import PublishedPipeline
from rat_resources.specs import (
    Parsed,
    PipelineSource,
    PipelineSpec,
    parse_pipeline,
    pipeline_folder,
)
from rat_resources.trees import shown
from rat_resources.validation import judge

LAYOUT = "name the folder {namespace}/pipelines/{layer}/{name}, or ns.layer.name"


@dataclass(frozen=True)
class Draft:
    """A pipeline that somebody wants to try."""

    source: PipelineSource
    pipeline: PublishedPipeline  # with the ids of what is published under its name
    release: int  # which all that it reads is of
    tree: Path | None = None  # None: it is what is published
    parsed: Parsed | None = None

    @property
    def spec(self) -> PipelineSpec:
        """What it means."""
        return self.pipeline.spec

    @property
    def code_path(self) -> str:
        """How people call its code."""
        return self.source.path(self.source.code_file)

    def described(self, zone: Zone) -> Zone:
        """A zone as the working tree describes it, if it does."""
        if self.tree is None:
            return zone
        path = self.tree / zone.namespace / "landing" / f"{zone.name}.yaml"
        problems: list[Problem] = []
        content = trees.read_text(path, problems) if path.is_file() else None
        if content is None:
            refuse(problems)
            return zone
        said = trees.read_zone(
            content, path=path, namespace=zone.namespace, problems=problems
        )
        refuse(problems)
        return replace(zone, expected_columns=said.expected_columns)


def find_draft(whole: Platform, word: str) -> Draft:
    """The draft at a path, or the published pipeline of a name."""
    path = Path(word)
    if path.exists():
        return read_draft(whole, path)
    try:
        table = TableName.parse(word)
    except ValueError:
        message = f"{word} is neither a path nor the name of a pipeline"
        raise NotFoundError(message, fix=advice(whole, word)) from None
    return published_draft(whole, table)


def advice(whole: Platform, word: str) -> str:
    """What somebody who wrote *word* probably meant."""
    with whole.metadata.transaction() as tx:
        known = [str(each.spec.table) for each in releases.load(tx)]
    guess = nearest(word, known)
    return f"did you mean {guess}?" if guess else LAYOUT


def published_draft(whole: Platform, table: TableName) -> Draft:
    """What is published under a name."""
    with whole.metadata.transaction() as tx:
        release = releases.current(tx) or 0
        found = releases.load(tx, release=release, only=[table])
        if not found:
            known = (each.spec.table for each in releases.load(tx, release=release))
            raise releases.unpublished(table, known)
    (pipeline,) = found
    source = releases.read_source(whole.store, pipeline)
    return Draft(source, pipeline, release)


# In a working tree.


def read_draft(whole: Platform, path: Path) -> Draft:
    """The pipeline that *path* is the folder or a file of; DraftError lists what is wrong with it."""
    folder = find_folder(path)
    tree = folder.parents[3]
    parsed = parse_pipeline(read_folder(folder, tree=tree))
    table = parsed.spec.table
    with whole.metadata.transaction() as tx:
        release = releases.current(tx) or 0
        known = {each.spec.table: each for each in releases.load(tx, release=release)}
    # Every table: what a draft may read is the preview's business.
    current = {name: each.spec for name, each in known.items()}
    refuse(judge([parsed], current=current, table_exists=lambda _table: True).said)
    pipeline = PublishedPipeline.draft(parsed.spec, before=known.get(table))
    return Draft(parsed.source, pipeline, release, tree, parsed)


def find_folder(path: Path) -> Path:
    """The pipeline's folder that *path* is or lies in."""
    # Not resolved: a pipeline is called as its author calls it, links included.
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - `absolute` keeps `..`
    for folder in (whole, *whole.parents):
        if len(folder.parents) > len(LAYERS) and folder.parts[-3] == "pipelines":
            if folder.parts[-2] in LAYERS:
                return folder
            guess = nearest(folder.parts[-2], LAYERS)
            message = f"{shown(folder)}: {folder.parts[-2]} is no layer"
            fix = f"did you mean {guess}?" if guess else f"there is {', '.join(LAYERS)}"
            raise NotFoundError(message, fix=fix)
    message = f"{shown(path)} is no pipeline and lies in none"
    raise NotFoundError(message, fix=LAYOUT)


def read_folder(folder: Path, *, tree: Path) -> PipelineSource:
    """The files of a pipeline's folder."""
    problems: list[Problem] = []
    files = trees.read_files(folder, root=tree, problems=problems)
    namespace, _, layer, name = folder.parts[-4:]
    problems += [
        trees.bad_name(folder, part) for part in (namespace, name) if not is_name(part)
    ]
    if files is None:
        what = "there is no file here"
        problems.append(Problem(shown(folder), 1, what, "write a pipeline.sql"))
    refuse(problems)
    return PipelineSource(TableName(namespace, layer, name), files or {}, shown(folder))


def refuse(problems: list[Problem] | tuple[Problem, ...]) -> None:
    """DraftError when there is any problem."""
    if problems:
        raise DraftError(problems)


def check_fit(whole: Platform, draft: Draft) -> None:
    """DraftError unless everything that a draft reads can be read on main."""
    if draft.parsed is None or draft.tree is None:
        return
    with whole.metadata.transaction() as tx:
        published = releases.load(tx, release=draft.release)
    specs = {each.spec.table: each.spec for each in published}
    tables = set(whole.lake.published())
    judgement = judge(
        [draft.parsed], current=specs, table_exists=lambda table: table in tables
    )
    unread = {
        problem.line: problem
        for problem in unready(draft.parsed, specs, tables=tables, tree=draft.tree)
    }
    problems = [
        unread.pop(each.line, each) if each.path == draft.code_path else each
        for each in judgement.problems
    ]
    refuse([*problems, *unread.values()])


def unready(
    parsed: Parsed,
    specs: Mapping[TableName, PipelineSpec],
    *,
    tables: set[TableName],
    tree: Path,
) -> Iterator[Problem]:
    """What the code reads that is nowhere but in the working tree, or has never run."""
    for table in parsed.spec.refs:
        place = parsed.ref_places[table]
        if table in specs and not specs[table].is_view and table not in tables:
            what = f"{table} is published and has never run, so main holds none of it"
            yield Problem(place.path, place.line, what, f"rat run {table} --upstream")
        elif table not in specs and (tree / pipeline_folder(table)).is_dir():
            what = f"{table} is a draft too, and a preview reads what is on main"
            fix = f"rat publish {shown(tree)} && rat run {table} --upstream"
            yield Problem(place.path, place.line, what, fix)
