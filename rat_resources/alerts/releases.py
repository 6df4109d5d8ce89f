"""Releases of alerts: what becomes of the definitions when the files of a tree are published.

A namespace that is published whole says all of its alerts: one whose file is gone is disabled. Each
release keeps the files that it changed, and going back to it brings them back. The pipelines that go
with them are `rat_resources.releases`.
"""

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from rat_resources.alerts import definitions
from rat_resources.alerts.definitions import Definition, Source, file_key
from rat_resources.alerts.documents import AlertDocument, code_key, read_alert
from rat_resources.alerts.fitting import definition_of
from rat_resources.alerts.withdrawal import end_disabled
from rat_resources.errors import Problem
from rat_resources.metadata.alerts import AlertVersion
from rat_resources.mirror.people import declare_org
from rat_resources.names import TableName
from rat_resources.store import Store

TOLD = (
    "condition",
    "severity",
    "labels",
    "channels",
    "enabled",
    "owner",
    "description",
    "remediation",
)


@dataclass(frozen=True)
class Published:
    """A definition that stands in a file, as it was published last."""

    definition: Definition
    content: str  # of the file
    code: str | None = None  # of the function that it names, where that is a file too

    @property
    def files(self) -> dict[str, str]:
        """Its files by their keys in the store."""
        place = code_key(self.definition.namespace, self.definition.condition)
        code = {place: self.code} if place and self.code is not None else {}
        return {file_key(self.definition): self.content, **code}


@dataclass(frozen=True)
class AlertChanges:
    """What would become of the alerts."""

    saved: Mapping[str, Published] = field(default_factory=dict)  # by their files
    created: tuple[str, ...] = ()  # {ns}/alerts/{name}.yaml
    changed: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    ids: tuple[uuid.UUID, ...] = ()  # of those that are withdrawn
    left_out: tuple[str, ...] = ()  # published, and not in a folder that holds a part
    words: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.created or self.changed or self.withdrawn)


NO_CHANGES = AlertChanges()


def compare(
    tx: Session,
    documents: Sequence[AlertDocument],
    *,
    whole: Collection[str],
    partly: Collection[str] = (),
) -> AlertChanges:
    """What publishing *documents* would change, where the namespaces *whole* say all of theirs."""
    before = published(tx)
    if not documents and not before:
        return NO_CHANGES
    org_id = declare_org(tx)
    after = {}
    for each in documents:
        id_ = definitions.id_of(org_id, each.namespace, each.name)
        after[id_] = Published(definition_of(each, id_), each.content, each.code)
    new = [each.definition for id_, each in after.items() if id_ not in before]
    # A comment is a change of the file only, and the store has to follow it.
    other = [
        each.definition
        for id_, each in after.items()
        if id_ in before and before[id_] != each
    ]
    gone = [each.definition for id_, each in sorted_by_name(before) if id_ not in after]
    leaving = [each for each in gone if each.namespace in whole]
    return AlertChanges(
        {file_key(each): after[each.id] for each in (*new, *other)},
        created=tuple(map(file_key, new)),
        changed=tuple(map(file_key, other)),
        withdrawn=tuple(map(file_key, leaving)),
        ids=tuple(each.id for each in leaving),
        left_out=tuple(file_key(each) for each in gone if each.namespace in partly),
        words=tuple(describe(new, other, leaving, before=before)),
    )


def sorted_by_name(
    before: Mapping[uuid.UUID, Published],
) -> list[tuple[uuid.UUID, Published]]:
    """Them in order of namespace and name."""
    return sorted(before.items(), key=lambda each: file_key(each[1].definition))


def describe(
    new: Sequence[Definition],
    other: Sequence[Definition],
    leaving: Sequence[Definition],
    *,
    before: Mapping[uuid.UUID, Published],
    why: str = "its file is gone",
) -> Iterator[str]:
    """What changes, in words."""
    for each in new:
        where = f" on {each.table}" if each.table else ""
        yield f"new alert {called(each)}: {each.kind}{where}"
    for each in other:
        old = before[each.id].definition
        said = [key for key in TOLD if getattr(old, key) != getattr(each, key)]
        yield f"alert {called(each)}: {', '.join(said) or 'only its file'}"
    for each in leaving:
        yield f"alert {called(each)} goes: {why}; its events stay"


def called(definition: Definition) -> str:
    """A definition as people call it."""
    return f"{definition.namespace}/{definition.name}"


def published(tx: Session, *, release: int | None = None) -> dict[uuid.UUID, Published]:
    """The definitions that stand in files, now or as release *release* had them."""
    if release is not None:
        return dict(read_again(tx.execute(AS_OF, {"release": release}).all()))
    kept = {
        each.id: each
        for each in definitions.load(tx, only_enabled=False)
        if each.source == Source.FILE
    }
    return {
        id_: Published(kept[id_], content, code)
        for id_, content, code in tx.execute(NOW)
        if id_ in kept
    }


NOW = text("""
    SELECT DISTINCT ON (alert.id) alert.id, coalesce(version.content, ''), version.code
    FROM trace.alert_definitions AS alert
    LEFT JOIN rat.alert_versions AS version ON version.definition_id = alert.id
    WHERE alert.source = 'file' AND alert.retired_at IS NULL
    ORDER BY alert.id, version.release_number DESC NULLS LAST
""")
AS_OF = text("""
    SELECT DISTINCT ON (version.definition_id)
        version.definition_id, alert.namespace, alert.name, version.content, version.code
    FROM rat.alert_versions AS version
    JOIN trace.alert_definitions AS alert ON alert.id = version.definition_id
    WHERE version.release_number <= :release
    ORDER BY version.definition_id, version.release_number DESC
""")


def read_again(
    rows: Sequence[Row],
) -> Iterator[tuple[uuid.UUID, Published]]:
    """The definitions of files that were published once."""
    for id_, namespace, name, content, code in rows:
        problems: list[Problem] = []
        if content is None:
            continue
        document = read_alert(
            content,
            path=f"{namespace}/alerts/{name}.yaml",
            namespace=namespace,
            name=name,
            problems=problems,
        )
        # What an older RAT took and this one does not stays as it is now.
        if document is not None:
            yield id_, Published(definition_of(document, id_), content, code)


def go_back(tx: Session, to: int) -> AlertChanges:
    """What it takes for the alerts to be those of release *to* again."""
    before, then = published(tx), published(tx, release=to)
    new = [each.definition for id_, each in then.items() if id_ not in before]
    other = [
        each.definition
        for id_, each in then.items()
        if id_ in before and before[id_] != each
    ]
    leaving = [
        each.definition for id_, each in sorted_by_name(before) if id_ not in then
    ]
    return AlertChanges(
        {file_key(each): then[each.id] for each in (*new, *other)},
        created=tuple(map(file_key, new)),
        changed=tuple(map(file_key, other)),
        withdrawn=tuple(map(file_key, leaving)),
        ids=tuple(each.id for each in leaving),
        words=tuple(describe(new, other, leaving, before=before)),
    )


def leave_with(tx: Session, tables: Collection[TableName]) -> AlertChanges:
    """What becomes of the alerts when *tables* are retired: theirs go too."""
    leaving = [
        each.definition
        for _, each in sorted_by_name(published(tx))
        if each.definition.table in tables
    ]
    return AlertChanges(
        withdrawn=tuple(map(file_key, leaving)),
        ids=tuple(each.id for each in leaving),
        words=tuple(describe([], [], leaving, before={}, why="its table is retired")),
    )


# Writing.


def write(tx: Session, changes: AlertChanges, *, release: int) -> None:
    """Let the definitions be what release *release* says."""
    rows: list[dict[str, Any]] = []
    for each in changes.saved.values():
        definitions.save(tx, each.definition)
        row = {"definition_id": each.definition.id, "content": each.content}
        rows.append(row | {"code": each.code})
    definitions.retire(tx, changes.ids)
    if changes:
        end_disabled(tx)
    gone = {"content": None, "code": None}
    rows += ({"definition_id": id_, **gone} for id_ in changes.ids)
    if rows:
        values = [{**each, "release_number": release} for each in rows]
        tx.execute(insert(AlertVersion).values(values))


def copy_files(store: Store, changes: AlertChanges) -> None:
    """Let the store hold the files that are published, and none that is gone."""
    for each in changes.saved.values():
        for key, content in each.files.items():
            store.write_changed(key, content.encode())
    for key in changes.withdrawn:
        if store.exists(key):
            store.delete(key)


def without_drafts(tx: Session, store: Store, changes: AlertChanges) -> AlertChanges:
    """The changes whose files in the store are what was published: a draft is left alone."""
    before = {
        file_key(each.definition): each.content for each in published(tx).values()
    }

    def is_draft(key: str) -> bool:
        held = store.read(key).decode(errors="replace") if store.exists(key) else None
        return held is not None and held != before.get(key)

    keys = [*changes.saved, *changes.withdrawn]
    drafts = {key for key in keys if is_draft(key)}
    return replace(
        changes,
        saved={key: each for key, each in changes.saved.items() if key not in drafts},
        withdrawn=tuple(each for each in changes.withdrawn if each not in drafts),
    )
