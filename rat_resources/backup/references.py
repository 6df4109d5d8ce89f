"""References of a server: what each branch and tag held, read, and put back where the server has lost it.

Branches of runs are left out: no run outlives a restore. Where they are kept in Postgres they are
tables like all others.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from rat_resources.errors import BackupError, NotFoundError
from rat_resources.lake import asides
from rat_resources.lake.refs import (
    MAIN,
    Delete,
    Entry,
    IcebergTable,
    Key,
    Namespace,
    Operation,
    Put,
    Reference,
    ReferenceType,
    Refs,
)
from rat_resources.reconciliation import RUN_BRANCHES

# The properties of the commit that puts main back: where it was, and when.
RESTORED = "rat.restored"
RESTORED_AT = "rat.restored_at"

Document = Mapping[str, Any]


def list_all(refs: Refs) -> list[Reference]:
    """Every reference that outlasts what is done on it, main first."""
    found = [
        each
        for each in refs.references()
        if each.name != MAIN
        and not each.name.startswith(RUN_BRANCHES)
        and asides.since(each.name) is None
    ]
    return [refs.reference(MAIN), *found]


def describe(refs: Refs, reference: Reference) -> Document:
    """A reference with all that it holds, for a program."""
    entries = [
        {"key": list(entry.key), "table": describe_content(entry)}
        for entry in refs.entries(at=f"@{reference.hash}")
    ]
    return {
        "name": reference.name,
        "type": reference.type.value,
        "hash": reference.hash,
        "entries": entries,
    }


def describe_content(entry: Entry) -> Document | None:
    """What a key holds; None for a namespace."""
    content = entry.content
    if isinstance(content, Namespace):
        return None
    return {key: value for key, value in asdict(content).items() if key != "id"}


def put_back(
    refs: Refs, documents: Sequence[Document], *, made_at: datetime, reset: bool
) -> list[str]:
    """Make the server hold what it held; what was done, a line each.

    A main that has moved on is taken back only with *reset*, and a tag keeps what it was. BackupError
    without, and then nothing was done.
    """
    refs.bootstrap()
    main, *others = documents
    lines = put_main_back(refs, main, made_at=made_at, reset=reset)
    for document in others:
        lines += put_other_back(refs, document)
    return lines


def put_main_back(
    refs: Refs, document: Document, *, made_at: datetime, reset: bool
) -> list[str]:
    """Let main hold what it held."""
    now, was = refs.reference(MAIN), str(document["hash"])
    if now.hash == was:
        return []
    changes = differences(refs, now.hash, document)
    is_empty = not any(True for _ in refs.entries(at=f"@{now.hash}"))
    if not changes and not is_empty:
        return []
    if not is_empty and not reset:
        raise moved_on(refs, now, was)
    lines = [] if is_empty else [keep(refs, now)]
    if knows(refs, now.hash, was):
        refs.assign(MAIN, to=f"@{was}", expected_hash=now.hash)
        return [*lines, f"main is taken back to {was[:12]}"]
    properties = {RESTORED: was, RESTORED_AT: made_at.isoformat()}
    commit(refs, MAIN, changes, properties=properties)
    return [*lines, f"main holds what it held at {was[:12]}, by a new commit"]


def moved_on(refs: Refs, now: Reference, was: str) -> BackupError:
    """That main has moved since the backup, and how far."""
    if knows(refs, now.hash, was):
        ahead = sum(1 for _ in refs.history(f"@{now.hash}", until=was))
        message = f"main is {ahead} commits ahead of the backup, which Postgres would not know of"
    else:
        message = (
            "main holds tables, and the server has never heard of the backup's commit"
        )
    fix = (
        "with --reset-main it is taken back, and a tag keeps what it is now;"
        " or restore a newer backup"
    )
    return BackupError(message, fix=fix)


def knows(refs: Refs, head: str, was: str) -> bool:
    """Whether a commit lies in the history of another."""
    try:
        return any(each.hash == was for each in refs.history(f"@{head}"))
    except NotFoundError:
        return False


def keep(refs: Refs, reference: Reference) -> str:
    """Keep what a reference is under a tag; a line that says so."""
    name = f"before-restore-{reference.hash[:12]}"
    try:
        refs.reference(name)
    except NotFoundError:
        refs.create(name, at=f"@{reference.hash}", kind=ReferenceType.TAG)
    return f"{reference.name} was at {reference.hash[:12]}; the tag {name} keeps it"


def put_other_back(refs: Refs, document: Document) -> list[str]:
    """Let a branch or tag hold what it held, if the server has lost it."""
    name, was = str(document["name"]), str(document["hash"])
    try:
        refs.reference(name)
    except NotFoundError:
        pass
    else:
        return []  # whoever made it knows better
    is_tag = document["type"] == ReferenceType.TAG
    branch = asides.name_aside("restored", id=uuid.uuid4()) if is_tag else name
    head = refs.create(branch).hash
    commit(refs, branch, differences(refs, head, document), properties={RESTORED: was})
    if is_tag:
        made = refs.reference(branch)
        refs.create(name, at=f"@{made.hash}", kind=ReferenceType.TAG)
        refs.delete(branch, expected_hash=made.hash)
    return [f"{document['type'].lower()} {name} is made anew"]


def differences(refs: Refs, head: str, document: Document) -> list[Operation]:
    """What has to be done to a commit, so that it holds what a reference held."""
    stands = {entry.key: entry.content for entry in refs.entries(at=f"@{head}")}
    wanted = {tuple(each["key"]): each["table"] for each in document["entries"]}
    changes: list[Operation] = []
    for key in sorted(wanted):
        changes += put(key, wanted[key], stands.get(key))
    # What lies in a namespace goes before it.
    gone = sorted(stands.keys() - wanted.keys(), reverse=True)
    return [*changes, *(Delete(key) for key in gone)]


def put(
    key: Key, table: Document | None, stands: IcebergTable | Namespace | None
) -> list[Operation]:
    """Let a key hold a table, or be a namespace; nothing where it is so."""
    if table is None:
        return [] if isinstance(stands, Namespace) else [Put(key, Namespace())]
    content = IcebergTable(**table, id=stands.id if stands else None)
    return [] if content == stands else [Put(key, content)]


def commit(
    refs: Refs,
    branch: str,
    changes: Sequence[Operation],
    *,
    properties: Mapping[str, str],
) -> None:
    """Make changes in one commit, so that nobody sees half of them; none without a change."""
    if changes:
        message = f"restore {branch}"
        refs.commit(branch, changes, message=message, properties=dict(properties))
