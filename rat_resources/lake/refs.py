"""Refs: branches and tags over one catalog, in Nessie's words.

Here is the protocol with its values, and what every keeper promises; `embedded_refs` keeps them in
Postgres, `nessie_refs` on a server. What a table holds is `catalog`'s: a ref only says which
metadata file is current.

A place in the catalog is written as Nessie writes it: `main` is a reference's head, `main@<hash>` a
commit of it, `@<hash>` a commit whatever reference it came from.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from rat_resources.errors import KeyConflict

MAIN = "main"
NAME = re.compile(r"[A-Za-z0-9._/-]+")

Key = tuple[str, ...]


class ReferenceType(StrEnum):
    """What a reference is."""

    BRANCH = "BRANCH"  # moves with each commit
    TAG = "TAG"  # stays where it was made


class ConflictType(StrEnum):
    """Why a key cannot be changed."""

    VALUE_DIFFERS = "VALUE_DIFFERS"  # somebody else changed it
    KEY_EXISTS = "KEY_EXISTS"  # somebody else made it
    KEY_DOES_NOT_EXIST = "KEY_DOES_NOT_EXIST"  # somebody else deleted it
    CONTENT_ID_DIFFERS = "CONTENT_ID_DIFFERS"  # it is another table of the same name
    NAMESPACE_ABSENT = "NAMESPACE_ABSENT"  # a parent is missing
    NAMESPACE_NOT_EMPTY = "NAMESPACE_NOT_EMPTY"  # it still holds something
    NOT_A_NAMESPACE = "NOT_A_NAMESPACE"  # a parent is a table


@dataclass(frozen=True)
class Reference:
    """A branch or tag, and the commit that it points to."""

    name: str
    hash: str
    type: ReferenceType = ReferenceType.BRANCH


@dataclass(frozen=True)
class IcebergTable:
    """A table's content: its current metadata file. The keeper gives a new one its id."""

    metadata_location: str
    snapshot_id: int = -1
    schema_id: int = 0
    spec_id: int = 0
    sort_order_id: int = 0
    id: str | None = None


@dataclass(frozen=True)
class Namespace:
    """A namespace's content. Two of one key are equal, wherever they were made."""

    id: str | None = None


Content = IcebergTable | Namespace


@dataclass(frozen=True)
class Entry:
    """A key and what it holds."""

    key: Key
    content: Content


@dataclass(frozen=True)
class Put:
    """Let *key* hold *content*, which bears the id of what it replaces, or none if it is new.

    With *expected*, only if the key holds that now.
    """

    key: Key
    content: Content
    expected: Content | None = None


@dataclass(frozen=True)
class Delete:
    """Let *key* hold nothing; with *expected*, only if it holds that now."""

    key: Key
    expected: Content | None = None


@dataclass(frozen=True)
class Unchanged:
    """Commit only if *key* is as it was at the expected hash; with *expected*, as that."""

    key: Key
    expected: Content | None = None


Operation = Put | Delete | Unchanged


@dataclass(frozen=True)
class Commit:
    """A commit as the log tells it; the second parent of a merge is the commit merged."""

    hash: str
    parents: tuple[str, ...]
    message: str
    authors: tuple[str, ...]
    time: datetime
    properties: Mapping[str, str]
    operations: tuple[Put | Delete, ...]


@dataclass(frozen=True)
class CommitResult:
    """A commit that was made, and what it put, ids included."""

    hash: str
    contents: Mapping[Key, Content]


@dataclass(frozen=True)
class Difference:
    """A key that holds one thing here and another, or nothing, there."""

    key: Key
    before: Content | None
    after: Content | None


@dataclass(frozen=True)
class Resolution:
    """How a merge shall treat a key that both sides changed.

    If the target still holds *expected_target*, the key becomes *resolved*, which bears the
    target's id; else it is in conflict.
    """

    key: Key
    expected_target: Content | None
    resolved: Content


@dataclass(frozen=True)
class KeyDetail:
    """A key that a merge brings, and why it cannot."""

    key: Key
    conflict: KeyConflict | None = None


@dataclass(frozen=True)
class MergeResult:
    """What a merge did, or with a dry run would do."""

    was_applied: (
        bool  # a commit was made: false if there was nothing to merge, or only asked
    )
    was_successful: bool  # no key is in conflict
    hash: str  # the target's head afterwards, of a commit of ours only if was_applied
    common_ancestor: str
    details: tuple[KeyDetail, ...] = field(default=())

    @property
    def conflicts(self) -> tuple[KeyConflict, ...]:
        """The keys that both sides changed."""
        return tuple(detail.conflict for detail in self.details if detail.conflict)


class Refs(Protocol):
    """The branches and tags of one catalog, and all that was ever committed to them.

    A reference or commit that is not there is a NotFoundError; a reference that is there already,
    or is not where it was expected, a ReferenceConflictError; a key that somebody else changed a
    MergeConflictError, from `commit` and `merge` alike. Then nothing was done. A name or request
    that makes no sense is a ValueError. Nothing is tried twice.

    A server that cannot be asked is a CatalogError, and then nothing was done. Where a commit or merge
    was sent and its answer is lost (a time-out, a dropped connection, any 5xx) it is a LostAnswerError:
    it may have been done, or be done yet.
    """

    @property
    def transactional(self) -> bool:
        """Whether `merge` can take part in a caller's transaction."""
        ...

    @property
    def latest_merge(self) -> timedelta:
        """How long after a branch was deleted a merge of it may still be done, sent before."""
        ...

    def bootstrap(self) -> Reference:
        """Make `main` with one first commit, unless it is there; anybody may, at any time."""
        ...

    def reference(self, name: str) -> Reference:
        """The branch or tag *name*."""
        ...

    def references(self, *, prefix: str = "") -> Iterator[Reference]:
        """Every branch and tag whose name starts with *prefix*, by name, page by page."""
        ...

    def heads(self) -> Iterator[Reference]:
        """Every branch and tag that the keeper has, under its own names: also those of others."""
        ...

    def head(self, name: str) -> str:
        """The hash that *name* points to."""
        ...

    def create(
        self, name: str, *, at: str = MAIN, kind: ReferenceType = ReferenceType.BRANCH
    ) -> Reference:
        """Make a branch or tag at the commit *at*."""
        ...

    def assign(self, name: str, *, to: str, expected_hash: str) -> Reference:
        """Let *name* point to the commit *to* instead of *expected_hash*."""
        ...

    def delete(self, name: str, *, expected_hash: str) -> Reference:
        """Forget *name*, which points to *expected_hash*; its commits stay. `main` cannot go."""
        ...

    def content(self, key: Key, *, at: str) -> Content | None:
        """What *key* holds there, or None."""
        ...

    def contents(self, keys: Iterable[Key], *, at: str) -> dict[Key, Content]:
        """What *keys* hold there, in one call; a key that holds nothing is left out."""
        ...

    def entries(self, *, at: str, prefix: Key = ()) -> Iterator[Entry]:
        """Every key there that starts with *prefix*, itself included, by key."""
        ...

    def history(
        self, at: str, *, until: str | None = None, limit: int | None = None
    ) -> Iterator[Commit]:
        """The commits from *at* back along the first parents, newest first, page by page.

        It ends before the commit *until*, or after *limit* commits.
        """
        ...

    def diff(self, before: str, *, after: str) -> list[Difference]:
        """Every key that holds something else *after* than *before*, by key."""
        ...

    def commit(
        self,
        branch: str,
        operations: Sequence[Operation],
        *,
        expected_hash: str | None = None,
        message: str,
        properties: Mapping[str, str] | None = None,
        authors: Sequence[str] = (),
    ) -> CommitResult:
        """Change keys of *branch* together, in one commit on its head.

        *expected_hash* is the commit that the caller read: the commit succeeds as long as none of
        its own keys changed since then (None: at all events). The parents of every key must be
        namespaces, be it by this commit. Putting a namespace that exists is no conflict.
        """
        ...

    def merge(
        self,
        source: str,
        *,
        from_hash: str | None = None,
        into: str = MAIN,
        expected_hash: str | None = None,
        message: str = "",
        properties: Mapping[str, str] | None = None,
        authors: Sequence[str] = (),
        resolutions: Sequence[Resolution] = (),
        dry_run: bool = False,
        connection: Connection | Session | None = None,
    ) -> MergeResult:
        """Bring what *source* changed, up to *from_hash*, into the branch *into*, in one commit.

        Keys are merged one by one against the common ancestor: it succeeds wherever both heads
        are, unless both changed one key. *expected_hash* must lie in the target's history, and
        need not be its head. Merging what is merged already, or changed nothing, makes no commit.
        A dry run reports conflicts instead of raising them, and changes nothing. A resolution of
        a key that *source* did not change has no effect.

        With *connection*, the merge belongs to the caller's transaction and stands or falls with
        it; only a `transactional` keeper can, another raises ValueError.
        """
        ...


def check_name(name: str) -> str:
    """*name*, if a branch or tag may be called that."""
    if NAME.fullmatch(name) is None or ".." in name:
        message = f"{name!r} names no reference: write letters, digits and . _ / -, without .."
        raise ValueError(message)
    return name


def split_place(place: str) -> tuple[str | None, str | None]:
    """The name and the hash in `name`, `name@hash` or `@hash`."""
    name, at, commit = place.partition("@")
    if (at and not commit) or not (name or commit):
        message = f"{place!r} is no place: write name, name@hash or @hash"
        raise ValueError(message)
    return (check_name(name) if name else None), commit or None


def parents(key: Key) -> list[Key]:
    """The namespaces that *key* lies in, outermost first."""
    return [key[:length] for length in range(1, len(key))]
