"""Names: what a namespace, a layer, a pipeline and its table may be called.

A pipeline and the table that it writes share one name of three parts, `namespace.layer.name`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import sha256
from typing import NamedTuple

LAYERS = ("bronze", "silver", "gold")
PLATFORM = "platform"  # the namespace of the tables that RAT itself brings along
PATTERN = re.compile(r"[a-z][a-z0-9_-]{0,62}")
NAME_RULE = "use at most 63 lower-case letters, digits, _ and -, starting with a letter"


def is_name(text: str) -> bool:
    """Whether *text* may name a namespace, a pipeline, a zone or a test."""
    return PATTERN.fullmatch(text) is not None


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The known word that somebody who wrote *word* most probably meant; 1 is the very word."""
    matches = get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return matches[0] if matches else None


def as_name(text: str) -> str | None:
    """The name that *text* is nearly: in lower case, with `_` for what no name may hold."""
    name = re.sub(r"[^a-z0-9_-]+", "_", text.lower()).strip("_-").lstrip("0123456789_-")
    return name if is_name(name) else None


@dataclass(frozen=True, order=True)
class TableName:
    """The name of a pipeline and of the one table that it writes."""

    namespace: str
    layer: str
    name: str

    @classmethod
    def parse(cls, text: str, *, namespace: str | None = None) -> "TableName":
        """Read `ns.layer.name`, or `layer.name` inside *namespace*; ValueError when it is neither."""
        parts = text.split(".")
        if len(parts) == 2 and namespace is not None:  # noqa: PLR2004 - layer.name
            parts = [namespace, *parts]
        if len(parts) != 3 or not all(map(is_name, parts)) or parts[1] not in LAYERS:  # noqa: PLR2004 - the three parts
            message = (
                f"{text!r} is no table name: write layer.name or namespace.layer.name"
            )
            raise ValueError(message)
        return cls(*parts)

    @property
    def key(self) -> tuple[str, str, str]:
        """The three parts, as the catalog and Dagster key them."""
        return (self.namespace, self.layer, self.name)

    def __str__(self) -> str:
        return ".".join(self.key)


class ColumnName(NamedTuple):
    """A column of a dataset: of a table, a view, or a landing zone (`namespace.landing.zone`)."""

    dataset: str
    column: str

    def __str__(self) -> str:
        return f"{self.dataset}.{self.column}"


def dagster_name(text: str) -> str:
    """*text* where Dagster allows no `-` (groups, checks, ops)."""
    return text.replace("-", "_")


def op_name(table: TableName) -> str:
    """The name of the op that writes *table*; two tables never share one."""
    name = dagster_name("__".join(table.key))
    # `a-b` and `a_b` are two pipelines, and Dagster wants two ops.
    return (
        f"{name}_{sha256(str(table).encode()).hexdigest()[:6]}"
        if "-" in str(table)
        else name
    )
