"""Hashes: what tells one document from any other, the same wherever and however often it is told."""

import json
from hashlib import sha256
from typing import Any


def hash_of(document: Any) -> str:  # noqa: ANN401 - JSON
    """`sha256:` and the hash of a JSON document, its keys sorted and without blanks."""
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return f"sha256:{sha256(canonical.encode()).hexdigest()}"
