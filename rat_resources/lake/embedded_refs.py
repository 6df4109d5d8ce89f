"""Embedded refs: the keeper of branches that needs nothing but Postgres.

Every change is one transaction that locks the row of the reference it moves, and nothing else.
What a commit looks like in tables, and how it is found again, is `commits`.
"""

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import islice
from typing import Any
from uuid import NAMESPACE_URL, uuid4, uuid5

from sqlalchemy import Connection, Engine, Row, delete, insert, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_skip
from sqlalchemy.orm import Session

from rat_resources.errors import (
    KeyConflict,
    MergeConflictError,
    NotFoundError,
    ReferenceConflictError,
)
from rat_resources.lake.commits import (
    PAGE,
    Chain,
    CommitRow,
    LineRow,
    OperationRow,
    Position,
    ReferenceRow,
    Segment,
    chain_of,
    common_ancestor,
    contains,
    contents_at,
    differences,
    encode_content,
    entries_at,
    log_page,
)
from rat_resources.lake.conflicts import check_once, conflict, misidentified, moved
from rat_resources.lake.refs import (
    MAIN,
    Commit,
    CommitResult,
    ConflictType,
    Content,
    Delete,
    Difference,
    Entry,
    Key,
    KeyDetail,
    MergeResult,
    Namespace,
    Operation,
    Put,
    Reference,
    ReferenceType,
    Resolution,
    Unchanged,
    check_name,
    parents,
    split_place,
)

Changes = dict[Key, Content | None]
REFERENCES = ReferenceRow.__table__


@dataclass(frozen=True)
class Note:
    """What a commit says about itself."""

    message: str
    properties: Mapping[str, str]
    authors: tuple[str, ...] = ()


class EmbeddedRefs:
    """Branches and tags in the schema `lake`; see `Refs` for what each method promises."""

    transactional = True
    latest_merge = timedelta(0)  # whoever deletes a branch waits for the merge of it

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def bootstrap(self) -> Reference:
        """Make `main` with one first commit, unless it is there; anybody may, at any time."""
        with self.engine.connect() as tx:
            row = _find(tx, MAIN)
            if row is not None:
                return _as_reference(row)
            made = _make_main(tx)
            if made is not None:
                tx.commit()
                return made
        # Somebody else made it meanwhile; what we prepared was rolled back.
        return self.reference(MAIN)

    def reference(self, name: str) -> Reference:
        """The branch or tag *name*."""
        with self.engine.connect() as tx:
            return _as_reference(_get(tx, name))

    def references(self, *, prefix: str = "") -> Iterator[Reference]:
        """Every branch and tag whose name starts with *prefix*, by name, page by page."""
        last = ""
        while page := self._page(prefix, after=last):
            yield from page
            last = page[-1].name

    def _page(self, prefix: str, *, after: str) -> list[Reference]:
        statement = (
            select(REFERENCES)
            .where(
                ReferenceRow.name.startswith(prefix, autoescape=True),
                ReferenceRow.name > after,
            )
            .order_by(ReferenceRow.name)
            .limit(PAGE)
        )
        with self.engine.connect() as tx:
            return [
                Reference(row.name, row.hash, ReferenceType(row.type))
                for row in tx.execute(statement)
            ]

    def heads(self) -> Iterator[Reference]:
        """Every branch and tag that the keeper has; here they are all of this RAT's."""
        return self.references()

    def head(self, name: str) -> str:
        """The hash that *name* points to."""
        return self.reference(name).hash

    def create(
        self, name: str, *, at: str = MAIN, kind: ReferenceType = ReferenceType.BRANCH
    ) -> Reference:
        """Make a branch or tag at the commit *at*."""
        check_name(name)
        with self.engine.begin() as tx:
            made = Reference(name, _resolve(tx, at).hash, kind)
            statement = (
                insert_or_skip(ReferenceRow)
                .values(name=name, type=kind.value, hash=made.hash)
                .on_conflict_do_nothing()
                .returning(ReferenceRow.name)
            )
            if tx.scalar(statement) is None:
                message = f"a reference named {name} exists already"
                raise ReferenceConflictError(message)
            return made

    def assign(self, name: str, *, to: str, expected_hash: str) -> Reference:
        """Let *name* point to the commit *to* instead of *expected_hash*."""
        with self.engine.begin() as tx:
            reference = _lock(tx, name, expected_hash=expected_hash)
            target = _resolve(tx, to)
            if target.hash != reference.hash:
                # Its old line may go on past the commit, so it opens a new one when it commits.
                _move(tx, name, to=target.hash, line=None)
            return replace(_as_reference(reference), hash=target.hash)

    def delete(self, name: str, *, expected_hash: str) -> Reference:
        """Forget *name*, which points to *expected_hash*; its commits stay. `main` cannot go."""
        if name == MAIN:
            message = f"{MAIN} cannot be deleted"
            raise ValueError(message)
        with self.engine.begin() as tx:
            reference = _lock(tx, name, expected_hash=expected_hash)
            tx.execute(delete(ReferenceRow).where(ReferenceRow.name == name))
            return _as_reference(reference)

    def content(self, key: Key, *, at: str) -> Content | None:
        """What *key* holds there, or None."""
        return self.contents([key], at=at).get(key)

    def contents(self, keys: Iterable[Key], *, at: str) -> dict[Key, Content]:
        """What *keys* hold there, in one call; a key that holds nothing is left out."""
        with self.engine.connect() as tx:
            return contents_at(tx, chain_of(tx, _resolve(tx, at)), keys)

    def entries(self, *, at: str, prefix: Key = ()) -> Iterator[Entry]:
        """Every key there that starts with *prefix*, itself included, by key."""
        with self.engine.connect() as tx:
            found = entries_at(tx, chain_of(tx, _resolve(tx, at)), prefix)
        yield from found

    def history(
        self, at: str, *, until: str | None = None, limit: int | None = None
    ) -> Iterator[Commit]:
        """The commits from *at* back along the first parents, newest first, page by page."""
        with self.engine.connect() as tx:
            chain = chain_of(tx, _resolve(tx, at))
        page = PAGE if limit is None else min(limit, PAGE)
        for commit in islice(self._walk(chain, page=page), limit):
            if commit.hash == until:
                return
            yield commit

    def _walk(self, chain: Chain, *, page: int) -> Iterator[Commit]:
        for segment in chain:
            rest = segment
            while found := self._log_page(rest, limit=page):
                yield from (commit for _, commit in found)
                rest = replace(rest, high=found[-1][0].seq - 1)

    def _log_page(
        self, segment: Segment, *, limit: int
    ) -> list[tuple[Position, Commit]]:
        with self.engine.connect() as tx:
            return log_page(tx, segment, limit=limit)

    def diff(self, before: str, *, after: str) -> list[Difference]:
        """Every key that holds something else *after* than *before*, by key."""
        with self.engine.connect() as tx:
            one, other = (chain_of(tx, _resolve(tx, at)) for at in (before, after))
            return differences(tx, one, other)

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
        """Change keys of *branch* together, in one commit on its head."""
        check_once([operation.key for operation in operations])
        with self.engine.begin() as tx:
            reference = _lock(tx, branch)
            head = _branch_head(tx, reference)
            chain = chain_of(tx, head)
            read = _part_of(tx, chain, expected_hash or head.hash, name=branch)
            then = chain if read == head else chain_of(tx, read)
            changes, conflicts = _apply(tx, operations, now=chain, then=then)
            conflicts = conflicts or _misplaced(tx, changes, chain=chain)
            if conflicts:
                raise MergeConflictError(conflicts)
            note = Note(message, properties or {}, tuple(authors))
            made = _write(tx, reference, head, changes, note)
            put = {key: content for key, content in changes.items() if content}
            return CommitResult(made, put)

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
        """Bring what *source* changed, up to *from_hash*, into the branch *into*, in one commit."""
        check_once([resolution.key for resolution in resolutions])
        with self._transaction(connection) as tx:
            target, head, merged = _lock_both(tx, source, into)
            ours = chain_of(tx, head)
            if from_hash is not None:
                chain = chain_of(tx, merged)
                merged = _part_of(tx, chain, from_hash, name=source)
            if expected_hash is not None:
                _part_of(tx, ours, expected_hash, name=into)
            theirs = chain_of(tx, merged)
            base = _ancestor(tx, theirs, ours)
            changes, details = _combine(
                tx, theirs, ours, base=chain_of(tx, base), resolutions=resolutions
            )
            result = MergeResult(
                was_applied=False,
                was_successful=not any(detail.conflict for detail in details),
                hash=head.hash,
                common_ancestor=base.hash,
                details=details,
            )
            if dry_run or (result.was_successful and not changes):
                return result
            if result.conflicts:
                raise MergeConflictError(result.conflicts)
            text = message or f"Merge {source} at {merged.hash} into {into}"
            note = Note(text, properties or {}, tuple(authors))
            made = _write(tx, target, head, changes, note, merged=merged)
            return replace(result, was_applied=True, hash=made)

    @contextmanager
    def _transaction(
        self, connection: Connection | Session | None
    ) -> Iterator[Connection]:
        if connection is None:
            with self.engine.begin() as tx:
                yield tx
        elif isinstance(connection, Session):
            # What the caller added to the session comes before the merge, as it does in the code.
            connection.flush()
            yield connection.connection()
        else:
            yield connection


def _find(tx: Connection, name: str) -> Row[Any] | None:
    return tx.execute(select(REFERENCES).where(ReferenceRow.name == name)).first()


def _get(tx: Connection, name: str) -> Row[Any]:
    row = _find(tx, check_name(name))
    if row is None:
        raise _no_reference(name)
    return row


def _no_reference(name: str) -> NotFoundError:
    return NotFoundError(f"there is no branch or tag named {name}")


def _as_reference(row: Row[Any]) -> Reference:
    return Reference(row.name, row.hash, ReferenceType(row.type))


def _make_main(tx: Connection) -> Reference | None:
    line = tx.scalar(insert(LineRow).returning(LineRow.id))
    first = secrets.token_hex(32)
    tx.execute(
        insert(CommitRow).values(
            hash=first,
            line=line,
            seq=1,
            # Nothing can be merged into a branch without a commit.
            message="The first commit",
            authors=[],
            properties={},
        )
    )
    statement = (
        insert_or_skip(ReferenceRow)
        .values(name=MAIN, type=ReferenceType.BRANCH.value, hash=first, line=line)
        .on_conflict_do_nothing()
        .returning(ReferenceRow.name)
    )
    return None if tx.scalar(statement) is None else Reference(MAIN, first)


def _resolve(tx: Connection, place: str) -> Position:
    """The commit at a place."""
    name, commit = split_place(place)
    head = _get(tx, name).hash if name is not None else None
    wanted = commit or head
    row = tx.execute(
        select(CommitRow.hash, CommitRow.line, CommitRow.seq).where(
            CommitRow.hash == wanted
        )
    ).first()
    if row is None:
        message = f"there is no commit {wanted}"
        raise NotFoundError(message)
    return Position(row.hash, row.line, row.seq)


def _lock(
    tx: Connection, name: str, *, expected_hash: str | None = None, share: bool = False
) -> Row[Any]:
    """The reference's row, which nobody moves before this transaction ends."""
    statement = select(REFERENCES).where(ReferenceRow.name == check_name(name))
    row = tx.execute(statement.with_for_update(read=share)).first()
    if row is None:
        raise _no_reference(name)
    if expected_hash is not None and row.hash != expected_hash:
        message = f"{name} is at {row.hash}, not at {expected_hash}"
        raise ReferenceConflictError(message)
    return row


def _lock_both(
    tx: Connection, source: str, into: str
) -> tuple[Row[Any], Position, Position]:
    """The target's row, its head and the source's head."""
    if source == into:
        message = f"{source} cannot be merged into itself"
        raise ValueError(message)
    # By name, so that two merges in opposite directions wait instead of deadlocking. The source
    # is locked as well: once it is deleted, no merge of it can come any more.
    rows = {
        name: _lock(tx, name, share=name == source) for name in sorted((source, into))
    }
    return (
        rows[into],
        _branch_head(tx, rows[into]),
        _resolve(tx, f"@{rows[source].hash}"),
    )


def _branch_head(tx: Connection, reference: Row[Any]) -> Position:
    if reference.type != ReferenceType.BRANCH:
        message = f"{reference.name} is a tag, and tags don't move"
        raise ReferenceConflictError(message)
    return _resolve(tx, f"@{reference.hash}")


def _part_of(tx: Connection, chain: Chain, commit: str, *, name: str) -> Position:
    """The commit, which must be in the history of the reference *name*."""
    position = _resolve(tx, f"@{commit}")
    if not contains(chain, position):
        message = f"commit {commit} is not in the history of {name}"
        raise NotFoundError(message)
    return position


def _move(tx: Connection, name: str, *, to: str, line: int | None) -> None:
    tx.execute(
        update(ReferenceRow).where(ReferenceRow.name == name).values(hash=to, line=line)
    )


def _apply(
    tx: Connection, operations: Sequence[Operation], *, now: Chain, then: Chain
) -> tuple[Changes, list[KeyConflict]]:
    """What *operations* change at *now*, and what has changed since *then*."""
    keys = [operation.key for operation in operations]
    current = contents_at(tx, now, keys)
    before = current if now == then else contents_at(tx, then, keys)
    changes: Changes = {}
    conflicts = []
    for operation in operations:
        holds = current.get(operation.key)
        if _is_same_namespace(operation, holds):
            continue
        found = moved(
            operation.key, expected=before.get(operation.key), holds=holds
        ) or _refused(operation, holds)
        if found is not None:
            conflicts.append(found)
        elif isinstance(operation, Put):
            changes[operation.key] = _with_id(operation.key, operation.content)
        elif isinstance(operation, Delete):
            changes[operation.key] = None
    return changes, conflicts


def _is_same_namespace(operation: Operation, holds: Content | None) -> bool:
    return (
        isinstance(operation, Put)
        and isinstance(operation.content, Namespace)
        and isinstance(holds, Namespace)
    )


def _refused(operation: Operation, holds: Content | None) -> KeyConflict | None:
    """The conflict if *operation* does not fit what its key holds now."""
    key = operation.key
    if operation.expected is not None:
        found = moved(key, expected=operation.expected, holds=holds)
        if found is not None:
            return found
    if isinstance(operation, Unchanged):
        return None
    if isinstance(operation, Delete):
        missing = conflict(key, ConflictType.KEY_DOES_NOT_EXIST, "does not exist")
        return missing if holds is None else None
    return misidentified(key, operation.content.id, holds)


def _with_id(key: Key, content: Content) -> Content:
    if content.id is not None:
        return content
    if isinstance(content, Namespace):
        # The same on every branch, so that two of them are equal.
        return replace(content, id=str(uuid5(NAMESPACE_URL, "\x1f".join(key))))
    return replace(content, id=str(uuid4()))


def _misplaced(tx: Connection, changes: Changes, *, chain: Chain) -> list[KeyConflict]:
    """The changes that would leave a key outside a namespace, on top of *chain*."""
    put = [key for key, content in changes.items() if content is not None]
    gone = [key for key, content in changes.items() if content is None]
    around: Changes = {
        **contents_at(tx, chain, [parent for key in put for parent in parents(key)]),
        **changes,
    }
    homeless = (_homeless(key, around) for key in put)
    orphaning = (_orphaning(tx, key, changes, chain=chain) for key in gone)
    return [found for found in (*homeless, *orphaning) if found is not None]


def _homeless(key: Key, around: Changes) -> KeyConflict | None:
    for parent in parents(key):
        content = around.get(parent)
        if content is None:
            missing = f"needs the namespace {'.'.join(parent)}"
            return conflict(key, ConflictType.NAMESPACE_ABSENT, missing)
        if not isinstance(content, Namespace):
            table = f"cannot lie in {'.'.join(parent)}, which is a table"
            return conflict(key, ConflictType.NOT_A_NAMESPACE, table)
    return None


def _orphaning(
    tx: Connection, key: Key, changes: Changes, *, chain: Chain
) -> KeyConflict | None:
    left = (e.key for e in entries_at(tx, chain, key) if e.key not in changes)
    for inner in left:
        full = f"still holds {'.'.join(inner)}"
        return conflict(key, ConflictType.NAMESPACE_NOT_EMPTY, full)
    return None


def _ancestor(tx: Connection, theirs: Chain, ours: Chain) -> Position:
    found = common_ancestor(tx, theirs, ours)
    if found is None:
        message = "the branches have no common ancestor"
        raise NotFoundError(message)
    commit = tx.scalar(
        select(CommitRow.hash).where(
            CommitRow.line == found.line, CommitRow.seq == found.high
        )
    )
    return Position(str(commit), found.line, found.high)


def _combine(
    tx: Connection,
    theirs: Chain,
    ours: Chain,
    *,
    base: Chain,
    resolutions: Sequence[Resolution],
) -> tuple[Changes, tuple[KeyDetail, ...]]:
    """What *theirs* changed since *base*, as it fits on *ours*."""
    brought = differences(tx, base, theirs)
    current = contents_at(tx, ours, [difference.key for difference in brought])
    resolved = {resolution.key: resolution for resolution in resolutions}
    changes: Changes = {}
    conflicts: dict[Key, KeyConflict | None] = {}
    for difference in brought:
        key, holds = difference.key, current.get(difference.key)
        conflicts[key] = None
        if key in resolved:
            conflicts[key] = _unresolved(resolved[key], holds)
            changes[key] = _with_id(key, resolved[key].resolved)
        elif holds != difference.after:
            conflicts[key] = moved(key, expected=difference.before, holds=holds)
            changes[key] = difference.after
    for misplaced in _misplaced(tx, changes, chain=ours):
        conflicts[misplaced.key] = conflicts[misplaced.key] or misplaced
    return changes, tuple(KeyDetail(key, found) for key, found in conflicts.items())


def _unresolved(resolution: Resolution, holds: Content | None) -> KeyConflict | None:
    return moved(
        resolution.key, expected=resolution.expected_target, holds=holds
    ) or misidentified(resolution.key, resolution.resolved.id, holds)


def _write(
    tx: Connection,
    reference: Row[Any],
    head: Position,
    changes: Changes,
    note: Note,
    *,
    merged: Position | None = None,
) -> str:
    """Put a commit on the head of a locked branch; its hash."""
    line = reference.line or _open_line(tx, head)
    commit = Position(secrets.token_hex(32), line, head.seq + 1)
    tx.execute(
        insert(CommitRow).values(
            hash=commit.hash,
            line=commit.line,
            seq=commit.seq,
            parent_hash=head.hash,
            merged_hash=merged.hash if merged else None,
            merged_line=merged.line if merged else None,
            merged_seq=merged.seq if merged else None,
            message=note.message,
            authors=list(note.authors),
            properties=dict(note.properties),
        )
    )
    if changes:
        tx.execute(insert(OperationRow), _operations(commit, changes))
    _move(tx, reference.name, to=commit.hash, line=line)
    return commit.hash


def _open_line(tx: Connection, head: Position) -> int:
    statement = insert(LineRow).values(parent_line=head.line, parent_seq=head.seq)
    return tx.execute(statement.returning(LineRow.id)).scalar_one()


def _operations(commit: Position, changes: Changes) -> list[dict[str, Any]]:
    return [
        {
            "line": commit.line,
            "seq": commit.seq,
            "key": list(key),
            "content": None if content is None else encode_content(content),
        }
        for key, content in changes.items()
    ]
