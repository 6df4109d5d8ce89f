"""Retirement: taking pipelines out of what is current, when nobody reads them any more.

Their tables and history stay. Retiring what a project's code no longer has is
`rat_resources.hand_written`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from sqlalchemy.orm import Session

from rat_resources import releases
from rat_resources.alerts import releases as alert_releases
from rat_resources.errors import AuthorError, NotFoundError
from rat_resources.metadata import Metadata
from rat_resources.names import TableName
from rat_resources.releases import PublishedPipeline, Release
from rat_resources.specs import PipelineSpec, pipeline_folder
from rat_resources.store import Store

Published = Mapping[TableName, PublishedPipeline]


class ReadError(AuthorError):
    """Other pipelines read it."""


def retire(
    metadata: Metadata,
    store: Store,
    words: Sequence[str],
    *,
    message: str = "",
    retired_by: str = "",
) -> Release:
    """Retire the pipelines that *words* name, together by one release, or none of them.

    The store's folders of them and the files of their alerts go too, lest publishing the store bring
    them back; a draft stays.
    """
    with metadata.transaction() as tx:
        tables, before = choose(tx, words)
        drafts = {table for table in tables if releases.has_draft(store, before[table])}
        alerts = alert_releases.leave_with(tx, tables)
        files = alert_releases.without_drafts(tx, store, alerts)
        release = releases.retire(tx, tables, message=message, retired_by=retired_by)
    alert_releases.copy_files(store, files)
    for table in set(tables) - drafts:
        for key in store.list(pipeline_folder(table)):
            store.delete(key)
    return release


def choose(tx: Session, words: Sequence[str]) -> tuple[list[TableName], Published]:
    """The pipelines that are named, and all that are published; an error unless they may go."""
    releases.lock_pointer(tx)
    before = {each.spec.table: each for each in releases.load(tx)}
    tables = list(dict.fromkeys(find(word, before) for word in words))
    for table in tables:
        refuse_hand_written(before[table].spec)
    refuse_read(tables, before)
    return tables, before


def find(word: str, known: Iterable[TableName]) -> TableName:
    """The published pipeline of a name; NotFoundError with the nearest."""
    names = {str(table): table for table in known}
    if word not in names:
        raise releases.unpublished(word, names)
    return names[word]


def refuse_hand_written(spec: PipelineSpec) -> None:
    """NotFoundError of an asset written by hand: its code would bring it back."""
    if spec.hand_written:
        message = f"{spec.table} is written by hand, in {spec.hand_written}"
        raise NotFoundError(message, fix="remove the function, then `rat reconcile`")


def refuse_read(tables: Collection[TableName], before: Published) -> None:
    """ReadError when a pipeline that stays reads one of *tables*, or tests against it."""
    said, readers = [], set()
    for table in tables:
        left = [
            reader
            for reader, each in before.items()
            if reader not in tables and table in (*each.spec.refs, *each.spec.test_refs)
        ]
        if left:
            said.append(f"{table} is read by {', '.join(map(str, left))}")
            readers |= set(left)
    if said:
        names = " ".join(map(str, [*tables, *sorted(readers)]))
        fix = f"change what reads it, or retire them together: rat retire {names}"
        raise ReadError("; ".join(said), fix=fix)
