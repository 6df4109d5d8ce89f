"""What Nessie's REST API v2 says, as the values of `refs`, and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import quote

from rat_resources.errors import KeyConflict
from rat_resources.lake.refs import (
    Commit,
    ConflictType,
    Content,
    Delete,
    Difference,
    Entry,
    IcebergTable,
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
)

Json = Any

TABLE = "ICEBERG_TABLE"
NAMESPACE = "NAMESPACE"
WORDS: Mapping[str, str] = {
    ConflictType.VALUE_DIFFERS: "was changed by somebody else",
    ConflictType.KEY_EXISTS: "was made by somebody else",
    ConflictType.KEY_DOES_NOT_EXIST: "is not there (any more)",
    ConflictType.CONTENT_ID_DIFFERS: "was made anew",
}
PARENTS = frozenset({ConflictType.NAMESPACE_ABSENT, ConflictType.NOT_A_NAMESPACE})


@dataclass(frozen=True)
class Wish:
    """What a commit shall change, and what it shall say about itself."""

    operations: tuple[Operation, ...]
    message: str
    properties: Mapping[str, str]
    authors: tuple[str, ...]

    def with_property(self, name: str, value: str) -> "Wish":
        """The same with one property more."""
        return replace(self, properties={**self.properties, name: value})

    def with_ids(self, ids: Mapping[Key, str]) -> "Wish":
        """The same with the ids that the server gave to tables."""
        return replace(
            self, operations=tuple(identify(each, ids) for each in self.operations)
        )

    def without_namespaces(self, conflicts: Sequence[KeyConflict]) -> "Wish | None":
        """The same without the namespaces that exist by now, if nothing else is in conflict."""
        exist = {
            each.key
            for each in conflicts
            if each.conflict_type == ConflictType.KEY_EXISTS
        }
        rest = tuple(
            operation
            for operation in self.operations
            if not (operation.key in exist and puts_namespace(operation))
        )
        gone = len(self.operations) - len(rest)
        return replace(self, operations=rest) if gone == len(conflicts) else None

    def by_its_keys(self, conflicts: Sequence[KeyConflict]) -> list[KeyConflict]:
        """The conflicts, those of a namespace by the keys that need it."""
        return [mine for each in conflicts for mine in self._concerned(each)]

    def _concerned(self, conflict: KeyConflict) -> list[KeyConflict]:
        if conflict.conflict_type not in PARENTS:
            return [conflict]
        outer = conflict.key
        keys = [
            operation.key
            for operation in self.operations
            if operation.key != outer and operation.key[: len(outer)] == outer
        ]
        return [replace(conflict, key=key) for key in keys] or [conflict]


def identify(operation: Operation, ids: Mapping[Key, str]) -> Operation:
    """*operation* with the id of the table that it puts, if that is new."""
    if not isinstance(operation, Put) or not isinstance(
        operation.content, IcebergTable
    ):
        return operation
    found = ids.get(operation.key, operation.content.id)
    return replace(operation, content=replace(operation.content, id=found))


def puts_namespace(operation: Operation) -> bool:
    """Whether it puts a namespace."""
    return isinstance(operation, Put) and isinstance(operation.content, Namespace)


def place_path(name: str | None, commit: str | None) -> str:
    """How a place is written in a path."""
    return quote(name or "", safe="") + (f"@{commit}" if commit else "")


def encode_key(key: Key) -> Json:
    """How a key is written in a body."""
    return {"elements": list(key)}


def decode_key(said: Json) -> Key:
    """The key."""
    return tuple(said["elements"])


def path_key(key: Key) -> str:
    """How a key is written in a path or a parameter."""
    # Only elements are told apart by a dot.
    return ".".join(element.replace(".", "\x1d") for element in key)


def encode_content(key: Key, content: Content) -> Json:
    """How the content of *key* is written."""
    if isinstance(content, Namespace):
        return {"type": NAMESPACE, "elements": list(key)}
    return {
        "type": TABLE,
        "metadataLocation": content.metadata_location,
        "snapshotId": content.snapshot_id,
        "schemaId": content.schema_id,
        "specId": content.spec_id,
        "sortOrderId": content.sort_order_id,
        **({"id": content.id} if content.id else {}),
    }


def decode_content(said: Json) -> Content | None:
    """The content; None for what RAT does not know, such as a view."""
    if said is None:
        return None
    if said["type"] == NAMESPACE:
        # Two of one key are equal, and the server gives each an id of its own.
        return Namespace()
    if said["type"] != TABLE:
        return None
    return IcebergTable(
        metadata_location=said["metadataLocation"],
        snapshot_id=said["snapshotId"],
        schema_id=said["schemaId"],
        spec_id=said["specId"],
        sort_order_id=said["sortOrderId"],
        id=said["id"],
    )


def decode_entry(said: Json) -> Entry | None:
    """The entry; None for what RAT does not know."""
    content = decode_content(said["content"])
    return None if content is None else Entry(decode_key(said["name"]), content)


def decode_difference(said: Json) -> Difference | None:
    """The difference; None where there is none that RAT knows of."""
    before, after = decode_content(said["from"]), decode_content(said["to"])
    return (
        None if before == after else Difference(decode_key(said["key"]), before, after)
    )


def encode_operation(operation: Operation) -> Json:
    """How an operation is written."""
    key = encode_key(operation.key)
    match operation:
        case Put(content=content):
            put = encode_content(operation.key, content)
            return {"type": "PUT", "key": key, "content": put}
        case Delete():
            return {"type": "DELETE", "key": key}
        case Unchanged():
            return {"type": "UNCHANGED", "key": key}


def decode_operation(said: Json) -> Put | Delete | None:
    """The operation; None for what RAT does not know."""
    key = decode_key(said["key"])
    if said["type"] == "DELETE":
        return Delete(key)
    content = decode_content(said.get("content"))
    return None if content is None else Put(key, content)


def encode_resolution(resolution: Resolution) -> Json:
    """How a resolution is written."""
    key, seen = resolution.key, resolution.expected_target
    return {
        "key": encode_key(key),
        "mergeBehavior": "NORMAL",
        "expectedTargetContent": None if seen is None else encode_content(key, seen),
        "resolvedContent": encode_content(key, resolution.resolved),
    }


def encode_wish(wish: Wish) -> Json:
    """How a commit is asked for."""
    return {
        "commitMeta": {
            "message": wish.message,
            "properties": dict(wish.properties),
            "authors": list(wish.authors),
        },
        "operations": [encode_operation(each) for each in wish.operations],
    }


def decode_commit(said: Json, *, root: str) -> Commit:
    """The commit as a log with all its operations tells it; *root* is no commit."""
    meta = said["commitMeta"]
    operations = [decode_operation(each) for each in said.get("operations") or ()]
    return Commit(
        hash=meta["hash"],
        parents=tuple(each for each in meta["parentCommitHashes"] if each != root),
        message=meta["message"],
        # A commit without authors is said to be by somebody without a name.
        authors=tuple(author for author in meta.get("authors") or () if author),
        time=datetime.fromisoformat(meta["commitTime"]),
        properties={
            name: values[0] for name, values in meta.get("allProperties", {}).items()
        },
        operations=tuple(each for each in operations if each is not None),
    )


def decode_reference(said: Json, *, name: str) -> Reference:
    """The reference, under the name that RAT knows it by."""
    return Reference(name, said["hash"], ReferenceType(said["type"]))


def decode_conflict(said: Json) -> KeyConflict:
    """The conflict, in our words where we have any."""
    key = decode_key(said["key"]) if said.get("key") else ()
    words = WORDS.get(said["conflictType"])
    message = f"{'.'.join(key)} {words}" if words else said["message"]
    return KeyConflict(key, said["conflictType"], message)


def decode_merge(said: Json) -> MergeResult:
    """What a merge did, or would do."""
    details = [
        KeyDetail(
            decode_key(each["key"]),
            decode_conflict(each["conflict"]) if each.get("conflict") else None,
        )
        for each in said["details"]
    ]
    return MergeResult(
        was_applied=said["wasApplied"],
        was_successful=said["wasSuccessful"],
        hash=said["resultantTargetHash"] or said["effectiveTargetHash"],
        common_ancestor=said["commonAncestor"],
        details=tuple(details),
    )
