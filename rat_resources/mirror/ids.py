"""Ids that anybody can compute: the same thing has the same id, however often it is told.

uuid5 in a namespace of its schema, of a key that names the thing.
"""

import uuid

TRACE = uuid.UUID("0c1d4a5e-5b0e-5b52-9a54-5d2c0a8e7f01")
CHM = uuid.UUID("0c1d4a5e-5b0e-5b52-9a54-5d2c0a8e7f02")


def trace_id(*key: object) -> uuid.UUID:
    """The id of a thing of Trace: its kind, and what tells it from others of that kind."""
    return uuid.uuid5(TRACE, "/".join(map(str, key)))


def chm_id(*key: object) -> uuid.UUID:
    """The id of a thing of CHM: its kind, and what tells it from others of that kind."""
    return uuid.uuid5(CHM, "/".join(map(str, key)))
