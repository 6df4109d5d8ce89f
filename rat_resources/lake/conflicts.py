"""Conflicts: why a key cannot become what somebody wants it to be."""

from collections.abc import Sequence

from rat_resources.errors import KeyConflict
from rat_resources.lake.refs import ConflictType, Content, Key


def check_once(keys: Sequence[Key]) -> None:
    """ValueError unless every key is named once."""
    if len(set(keys)) < len(keys) or () in keys:
        message = f"a key is empty or named twice: {sorted(keys)}"
        raise ValueError(message)


def conflict(key: Key, conflict_type: ConflictType, what: str) -> KeyConflict:
    """A conflict of *key*, which *what* says in words."""
    return KeyConflict(key, conflict_type, f"{'.'.join(key)} {what}")


def moved(
    key: Key, *, expected: Content | None, holds: Content | None
) -> KeyConflict | None:
    """The conflict if *key* does not hold what was expected."""
    if holds == expected:
        return None
    if expected is None:
        return conflict(key, ConflictType.KEY_EXISTS, "was made by somebody else")
    if holds is None:
        return conflict(key, ConflictType.KEY_DOES_NOT_EXIST, "was deleted")
    if holds.id != expected.id:
        return conflict(key, ConflictType.CONTENT_ID_DIFFERS, "was made anew")
    return conflict(key, ConflictType.VALUE_DIFFERS, "was changed by somebody else")


def misidentified(
    key: Key, content_id: str | None, holds: Content | None
) -> KeyConflict | None:
    """The conflict if what *key* holds bears another id than what is put there."""
    if holds is None and content_id is not None:
        return conflict(key, ConflictType.KEY_DOES_NOT_EXIST, "does not exist")
    if holds is not None and content_id is None:
        return conflict(key, ConflictType.KEY_EXISTS, "exists already")
    if holds is not None and content_id != holds.id:
        return conflict(key, ConflictType.CONTENT_ID_DIFFERS, "is another content")
    return None
