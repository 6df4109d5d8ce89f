"""Nessie refs: the keeper of branches that is a Nessie server, by its REST API v2.

How the server is reached is `nessie_server`, what it says `nessie_json`. `main` is the branch that
the settings name. Where they name another one than `main`, the other references of this RAT lie
under its name, so that several share one server and never meet.

A request that changes something is sent once. When its answer is lost, the log tells by an id of
the request whether it was done; when even that cannot be asked, nobody knows.
"""

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from http import HTTPStatus
from itertools import islice

from pynessie.error import (
    NessieConflictException,
    NessieException,
    NessieNotFoundException,
    NessieReferenceAlreadyExistsException,
)
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from rat_resources.errors import (
    CatalogError,
    KeyConflict,
    LostAnswerError,
    MergeConflictError,
    NotFoundError,
    ReferenceConflictError,
)
from rat_resources.lake.asides import name_aside
from rat_resources.lake.conflicts import check_once, misidentified, moved
from rat_resources.lake.content_cache import ContentCache
from rat_resources.lake.nessie_json import (
    Json,
    Wish,
    decode_commit,
    decode_conflict,
    decode_content,
    decode_difference,
    decode_entry,
    decode_key,
    decode_merge,
    decode_reference,
    encode_key,
    encode_resolution,
    encode_wish,
    path_key,
    place_path,
)
from rat_resources.lake.nessie_server import NessieServer
from rat_resources.lake.refs import (
    MAIN,
    Commit,
    CommitResult,
    Content,
    Difference,
    Entry,
    Key,
    KeyDetail,
    MergeResult,
    Operation,
    Put,
    Reference,
    ReferenceType,
    Resolution,
    Unchanged,
    check_name,
    split_place,
)
from rat_resources.nessie_settings import NessieSettings

REQUEST = "rat.request"  # the property of a commit that says which request made it
FIRST = "The first commit"
ATTEMPTS = 50  # at a commit that may be based on any head
LOG_PAGE = 100
LOOKED_AT = 1000  # commits, where nobody says since when
NO_REFERENCE = re.compile(r"Named reference '(?P<name>.+)' not found")
RECONCILE = "`rat reconcile` finds out"
SERVER_TIMEOUT = 10.0  # seconds: twice what Nessie itself gives a commit


@dataclass(frozen=True)
class MergeWish:
    """What a merge shall be."""

    into: str
    path: str
    since: str | None
    source: str  # as the server calls it
    merged: str
    note: Wish
    resolutions: tuple[Resolution, ...]

    @property
    def url(self) -> str:
        """Where it is asked for."""
        return f"trees/{self.path}/history/merge"

    def with_property(self, name: str, value: str) -> "MergeWish":
        """The same, whose commit bears one property more."""
        return replace(self, note=self.note.with_property(name, value))

    def body(self, *, dry_run: bool) -> Json:
        """What is sent."""
        return {
            "fromRefName": self.source,
            "fromHash": self.merged,
            "commitMeta": encode_wish(self.note)["commitMeta"],
            "keyMergeModes": [encode_resolution(each) for each in self.resolutions],
            # Under the names in the documentation they are ignored, and a dry run merges.
            "isDryRun": dry_run,
            "isReturnConflictAsResult": True,
        }


class NessieRefs:
    """Branches and tags on a Nessie server; see `Refs` for what each method promises."""

    transactional = False

    def __init__(self, settings: NessieSettings) -> None:
        self.settings = settings
        self.server = NessieServer(settings)
        self.cache = ContentCache()

    @property
    def latest_merge(self) -> timedelta:
        """How long after a branch was deleted a merge of it may still be done, sent before."""
        return timedelta(seconds=self.settings.timeout + SERVER_TIMEOUT)

    @cached_property
    def root(self) -> str:
        """The hash before every first commit."""
        found: str = self.server.check()["noAncestorHash"]
        return found

    # Names

    def _there(self, name: str) -> str:
        """What the server calls the reference *name*."""
        check_name(name)
        if name == MAIN:
            return self.settings.branch
        return (
            name if self.settings.branch == MAIN else f"{self.settings.branch}/{name}"
        )

    def _here(self, name: str) -> str:
        """What RAT calls the reference that the server calls *name*."""
        if name == self.settings.branch:
            return MAIN
        own = f"{self.settings.branch}/"
        return name if self.settings.branch == MAIN else name.removeprefix(own)

    def _path(self, place: str) -> str:
        """How the server calls a place."""
        name, commit = split_place(place)
        return place_path(None if name is None else self._there(name), commit)

    def _decode_reference(self, said: Json) -> Reference:
        return decode_reference(said, name=self._here(said["name"]))

    # References

    def bootstrap(self) -> Reference:
        """Make `main` with one first commit, unless it is there; anybody may, at any time."""
        root = self.root
        try:
            found = self.reference(MAIN)
        except NotFoundError:
            found = None
        if found is not None and found.hash != root:
            return found
        # Made aside and put in place at once: whoever comes second finds it there.
        aside = self._create_at(name_aside("first", id=uuid.uuid4()), root)
        # A commit must hold something; this holds nothing.
        first = self.commit(aside.name, [Unchanged(("rat",))], message=FIRST).hash
        try:
            if found is None:
                self._create_at(MAIN, first)
            else:
                self.assign(MAIN, to=f"@{first}", expected_hash=root)
        except ReferenceConflictError:
            pass  # somebody else was faster
        self.delete(aside.name, expected_hash=first)
        return self.reference(MAIN)

    def reference(self, name: str) -> Reference:
        """The branch or tag *name*."""
        path = place_path(self._there(name), None)
        try:
            return self._decode_reference(self.server.get(f"trees/{path}")["reference"])
        except NessieException as error:
            raise self._translated(error, name) from error

    def references(self, *, prefix: str = "") -> Iterator[Reference]:
        """Every branch and tag whose name starts with *prefix*, by name, page by page."""
        own = "" if self.settings.branch == MAIN else f"{self.settings.branch}/"
        filters = (
            [f"ref.name.startsWith('{check_name(own + prefix)}')"]
            if own + prefix
            else []
        )
        if own and MAIN.startswith(prefix):
            filters.append(f"ref.name == '{self.settings.branch}'")
        asked = {"filter": " || ".join(filters)} if filters else {}
        found = map(
            self._decode_reference, self.server.pages("trees", "references", **asked)
        )
        yield from sorted(
            (each for each in found if each.name.startswith(prefix)),
            key=lambda each: each.name,
        )

    def heads(self) -> Iterator[Reference]:
        """Every branch and tag that the server has, under its own names: also those of others."""
        for said in self.server.pages("trees", "references"):
            found = decode_reference(said, name=said["name"])
            if found.hash != self.root:
                yield found

    def head(self, name: str) -> str:
        """The hash that *name* points to."""
        return self.reference(name).hash

    def create(
        self, name: str, *, at: str = MAIN, kind: ReferenceType = ReferenceType.BRANCH
    ) -> Reference:
        """Make a branch or tag at the commit *at*."""
        check_name(name)
        return self._create_at(name, self._resolve(at), kind=kind)

    def _resolve(self, place: str) -> str:
        """The hash at a place, which need not be there if it says its hash."""
        name, commit = split_place(place)
        return commit or self.head(str(name))

    def _create_at(
        self, name: str, commit: str, *, kind: ReferenceType = ReferenceType.BRANCH
    ) -> Reference:
        body = {"type": "DETACHED", "hash": commit}
        there = self._there(name)
        try:
            said = self.server.send("POST", "trees", body, name=there, type=kind.value)
        except LostAnswerError:
            # No name is ever used twice: one that points there is the one that was asked for.
            made = self._find_reference(name)
            if made is not None and (made.hash, made.type) == (commit, kind):
                return made
            raise
        except NessieException as error:
            raise self._translated(error, name) from error
        return self._decode_reference(said["reference"])

    def _find_reference(self, name: str) -> Reference | None:
        try:
            return self.reference(name)
        except NotFoundError:
            return None

    def assign(self, name: str, *, to: str, expected_hash: str) -> Reference:
        """Let *name* point to the commit *to* instead of *expected_hash*."""
        target = self._resolve(to)
        body = {"type": "DETACHED", "hash": target}
        path = place_path(self._there(name), expected_hash)
        try:
            said = self.server.send("PUT", f"trees/{path}", body)
        except LostAnswerError as error:
            found = self.reference(name)
            if found.hash != target:
                message = f"nobody knows whether {name} was moved: {error.message}"
                raise LostAnswerError(message, fix=RECONCILE) from error
            return found
        except NessieException as error:
            raise self._translated(error, name) from error
        return self._decode_reference(said["reference"])

    def delete(self, name: str, *, expected_hash: str) -> Reference:
        """Forget *name*, which points to *expected_hash*; its commits stay. `main` cannot go."""
        if name == MAIN:
            message = f"{MAIN} cannot be deleted"
            raise ValueError(message)
        path = place_path(self._there(name), expected_hash)
        try:
            said = self.server.send("DELETE", f"trees/{path}")
        except LostAnswerError as error:
            if self._find_reference(name) is not None:
                message = f"nobody knows whether {name} was deleted: {error.message}"
                raise LostAnswerError(message, fix=RECONCILE) from error
            return Reference(name, expected_hash)
        except NessieException as error:
            raise self._translated(error, name) from error
        return self._decode_reference(said["reference"])

    # Contents

    def content(self, key: Key, *, at: str) -> Content | None:
        """What *key* holds there, or None."""
        return self.contents([key], at=at).get(key)

    def contents(self, keys: Iterable[Key], *, at: str) -> dict[Key, Content]:
        """What *keys* hold there, in one call; a key that holds nothing is left out."""
        wanted = list(keys)
        _, commit = split_place(at)
        known = self.cache.look_up(commit, wanted) if commit else {}
        missing = [key for key in wanted if key not in known]
        if missing:
            known |= self._ask_contents(missing, at=at)
        return {key: content for key in wanted if (content := known[key]) is not None}

    def _ask_contents(self, keys: list[Key], *, at: str) -> dict[Key, Content | None]:
        body = {"requestedKeys": [encode_key(key) for key in keys]}
        try:
            said = self.server.find(f"trees/{self._path(at)}/contents", body)
        except NessieException as error:
            raise self._translated(error, at) from error
        found = {
            decode_key(each["key"]): decode_content(each["content"])
            for each in said["contents"]
        }
        contents = {key: found.get(key) for key in keys}
        self.cache.keep(said["effectiveReference"]["hash"], contents)
        return contents

    def entries(self, *, at: str, prefix: Key = ()) -> Iterator[Entry]:
        """Every key there that starts with *prefix*, itself included, by key."""
        asked = {
            "content": "true",
            **({"prefix-key": path_key(prefix)} if prefix else {}),
        }
        path = f"trees/{self._path(at)}/entries"
        found: list[Entry] = []
        try:
            for said in self.server.pages(path, "entries", **asked):
                entry = decode_entry(said)
                if entry is not None and entry.key[: len(prefix)] == prefix:
                    found.append(entry)
        except NessieException as error:
            raise self._translated(error, at) from error
        yield from sorted(found, key=lambda entry: entry.key)

    def history(
        self, at: str, *, until: str | None = None, limit: int | None = None
    ) -> Iterator[Commit]:
        """The commits from *at* back along the first parents, newest first, page by page."""
        asked = {"fetch": "ALL", "max-records": min(limit or LOG_PAGE, LOG_PAGE)}
        # The server walks to the very first commit, whatever page it is asked for.
        asked |= {"limit-hash": until} if until else {}
        path = f"trees/{self._path(at)}/history"
        try:
            for said in islice(self.server.pages(path, "logEntries", **asked), limit):
                commit = decode_commit(said, root=self.root)
                if commit.hash == until:
                    return
                yield commit
        except NessieException as error:
            raise self._translated(error, at) from error

    def diff(self, before: str, *, after: str) -> list[Difference]:
        """Every key that holds something else *after* than *before*, by key."""
        path = f"trees/{self._path(before)}/diff/{self._path(after)}"
        try:
            found = map(decode_difference, self.server.pages(path, "diffs"))
            return sorted(
                (each for each in found if each is not None), key=lambda each: each.key
            )
        except NessieException as error:
            raise self._translated(error, f"{before} or {after}") from error

    # Commits

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
        wish = Wish(tuple(operations), message, properties or {}, tuple(authors))
        if expected_hash is not None:
            return self._commit_on(branch, expected_hash, wish)
        for _ in range(ATTEMPTS):
            head = self.head(branch)
            try:
                return self._commit_on(branch, head, wish)
            except MergeConflictError:
                # Of what was refused nothing was done; on a newer head it may be fine.
                if self.head(branch) == head:
                    raise
        message = f"{branch} moves faster than a commit can follow"
        raise ReferenceConflictError(message)

    def _commit_on(self, branch: str, base: str, wish: Wish) -> CommitResult:
        self._check_expected(f"{branch}@{base}", wish.operations)
        try:
            return self._send_commit(branch, base, wish)
        except NessieConflictException as error:
            if not error.conflicts:
                raise ReferenceConflictError(error.server_message) from error
            conflicts = [decode_conflict(each) for each in error.conflicts]
        except NessieNotFoundException as error:
            raise self._translated(error, branch) from error
        except NessieException as error:
            conflicts = self._diagnose(error, branch, wish)
        rest = wish.without_namespaces(conflicts)
        if rest is None:
            raise MergeConflictError(wish.by_its_keys(conflicts))
        if not rest.operations:
            return CommitResult(self.head(branch), {})
        return self._commit_on(branch, base, rest)

    def _check_expected(self, place: str, operations: Sequence[Operation]) -> None:
        """MergeConflictError unless the keys hold at *place* what they are expected to."""
        expected = {op.key: op.expected for op in operations if op.expected is not None}
        holds = self.contents(expected, at=place) if expected else {}
        conflicts = [
            found
            for key, content in expected.items()
            if (found := moved(key, expected=content, holds=holds.get(key)))
        ]
        if conflicts:
            raise MergeConflictError(conflicts)

    def _send_commit(self, branch: str, base: str, wish: Wish) -> CommitResult:
        request = str(uuid.uuid4())
        path = f"trees/{place_path(self._there(branch), base)}/history/commit"
        try:
            said = self.server.send(
                "POST", path, encode_wish(wish.with_property(REQUEST, request))
            )
        except LostAnswerError as error:
            made = self._look_up(request, branch, since=base, lost=error)
            return CommitResult(made.hash, contents_put(made.operations))
        ids = {
            decode_key(each["key"]): each["contentId"]
            for each in said["addedContents"] or ()
        }
        contents = contents_put(wish.with_ids(ids).operations)
        result = CommitResult(said["targetBranch"]["hash"], contents)
        self.cache.keep(result.hash, result.contents)
        return result

    def _look_up(
        self, request: str, branch: str, *, since: str | None, lost: LostAnswerError
    ) -> Commit:
        """The commit that *request* made of *branch*; an error that nobody knows if it is not there."""
        limit = LOOKED_AT if since is None else None
        error: Exception = lost
        try:
            for commit in self.history(branch, until=since, limit=limit):
                if commit.properties.get(REQUEST) == request:
                    return commit
        except (CatalogError, NotFoundError) as found:
            error = found
        message = f"nobody knows whether {branch} was changed: {error}"
        raise LostAnswerError(message, fix=RECONCILE) from lost

    def _diagnose(
        self, error: NessieException, branch: str, wish: Wish
    ) -> list[KeyConflict]:
        """Why a commit was called a bad request: a put that does not know what is there."""
        reference = self.reference(branch)
        if reference.type is not ReferenceType.BRANCH:
            message = f"{branch} is a tag, and tags don't move"
            raise ReferenceConflictError(message) from error
        puts = contents_put(wish.operations)
        holds = self.contents(puts, at=f"{branch}@{reference.hash}")
        conflicts = [
            found
            for key, content in puts.items()
            if (found := misidentified(key, content.id, holds.get(key)))
        ]
        if not conflicts:
            raise ValueError(error.server_message) from error
        return conflicts

    # Merges

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
        if connection is not None:
            message = "a Nessie server cannot merge within a transaction of Postgres"
            raise ValueError(message)
        check_once([resolution.key for resolution in resolutions])
        if source == into:
            message = f"{source} cannot be merged into itself"
            raise ValueError(message)
        merged = from_hash or self.head(source)
        text = message or f"Merge {source} at {merged} into {into}"
        wish = MergeWish(
            into,
            # Every branch has come from the root: so it is merged wherever it is now.
            path=place_path(self._there(into), expected_hash or self.root),
            since=expected_hash,
            source=self._there(source),
            merged=merged,
            note=Wish((), text, properties or {}, tuple(authors)),
            resolutions=tuple(resolutions),
        )
        return self._dry_merge(wish) if dry_run else self._merge(wish)

    def _dry_merge(self, wish: MergeWish) -> MergeResult:
        try:
            # It changes nothing, so it may be asked for again.
            return decode_merge(self.server.find(wish.url, wish.body(dry_run=True)))
        except NessieConflictException as error:
            conflicts = [decode_conflict(each) for each in error.conflicts]
            if not conflicts:
                raise self._translated(error, wish.into) from error
        except NessieException as error:
            return self._dry_merge(self._fitting(wish, error))
        # What concerns the whole tree the server refuses to tell as a result.
        return MergeResult(
            was_applied=False,
            was_successful=False,
            hash=self.head(wish.into),
            common_ancestor="",
            details=tuple(KeyDetail(each.key, each) for each in conflicts),
        )

    def _merge(self, wish: MergeWish) -> MergeResult:
        request = str(uuid.uuid4())
        marked = wish.with_property(REQUEST, request)
        try:
            result = decode_merge(
                self.server.send("POST", marked.url, marked.body(dry_run=False))
            )
        except LostAnswerError as error:
            made = self._look_up(request, wish.into, since=wish.since, lost=error)
            return merged_by(made)
        except NessieConflictException as error:
            conflicts = [decode_conflict(each) for each in error.conflicts]
            if not conflicts:
                raise self._translated(error, wish.into) from error
            raise MergeConflictError(conflicts) from error
        except NessieException as error:
            return self._merge(self._fitting(wish, error))
        if result.conflicts:
            raise MergeConflictError(result.conflicts)
        return result

    def _fitting(self, wish: MergeWish, error: NessieException) -> MergeWish:
        """*wish* without the resolutions of keys that are not merged, if it was refused for them."""
        if isinstance(error, NessieNotFoundException) or not wish.resolutions:
            raise self._refused(wish, error) from error
        plain = self._dry_merge(replace(wish, resolutions=()))
        keys = {detail.key for detail in plain.details}
        fitting = tuple(each for each in wish.resolutions if each.key in keys)
        if fitting == wish.resolutions:
            raise self._refused(wish, error) from error
        return replace(wish, resolutions=fitting)

    def _refused(self, wish: MergeWish, error: NessieException) -> Exception:
        if (
            not isinstance(error, NessieNotFoundException)
            and self.reference(wish.into).type is not ReferenceType.BRANCH
        ):
            message = f"{wish.into} is a tag, and tags don't move"
            return ReferenceConflictError(message)
        return self._translated(error, f"{wish.source} at {wish.merged}")

    def _translated(self, error: NessieException, what: str) -> Exception:
        """Our error for one of pynessie's."""
        if isinstance(error, NessieReferenceAlreadyExistsException):
            return ReferenceConflictError(f"a reference named {what} exists already")
        if isinstance(error, NessieConflictException):
            return ReferenceConflictError(error.server_message)
        if isinstance(error, NessieNotFoundException):
            return NotFoundError(self._missing(error.server_message, what))
        if error.status_code == HTTPStatus.BAD_REQUEST:
            return ValueError(error.server_message)
        message = f"the Nessie server at {self.settings.url} answers: {error}"
        return CatalogError(message, fix="look at its log")

    def _missing(self, said: str, what: str) -> str:
        """What is not there, by the name that RAT knows it by."""
        found = NO_REFERENCE.match(said)
        if found is None:
            return f"there is no {what}: {said}"
        return f"there is no branch or tag named {self._here(found['name'])}"


def merged_by(commit: Commit) -> MergeResult:
    """What the merge did that made *commit*."""
    return MergeResult(
        was_applied=True,
        was_successful=True,
        hash=commit.hash,
        common_ancestor="",
        details=tuple(KeyDetail(operation.key) for operation in commit.operations),
    )


def contents_put(operations: Iterable[Operation]) -> dict[Key, Content]:
    """What *operations* put."""
    return {op.key: op.content for op in operations if isinstance(op, Put)}
