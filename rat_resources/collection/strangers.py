"""Strangers: tables in an unmarked warehouse that this RAT does not know, whose files it would remove."""

import re
from collections.abc import Mapping

from rat_resources.collection.live import Live, read_metadata
from rat_resources.errors import CollectionError
from rat_resources.lake.marker import ADOPT
from rat_resources.lake.storage import files_of

METADATA = re.compile(r"(?P<folder>.+)/metadata/[^/]+\.metadata\.json(\.gz)?")


def refuse_strangers(warehouse: str, live: Live, folders: Mapping[str, str]) -> None:
    """CollectionError where a table lies that nothing of this RAT's refers to."""
    for file in files_of(warehouse).list(warehouse):
        found = METADATA.fullmatch(file.location)
        if found is None or file.location in live:
            continue
        if found["folder"] not in folders or not is_known(live, file.location):
            message = f"the warehouse {warehouse} has no marker, and holds a table that this RAT"
            message += f" does not know: {file.location}"
            fix = f"give each RAT a warehouse of its own; if this one is, {ADOPT}"
            raise CollectionError(message, fix=fix)


def is_known(live: Live, location: str) -> bool:
    """Whether a metadata file is of a table that is needed."""
    try:
        return read_metadata(live.io, location).uuid in live.uuids
    except Exception:  # noqa: BLE001 - whatever is in it, it is none of ours
        return False
