"""Commits: the tables of the embedded refs, and how to find anything in a long history.

Commits of one branch lie on a line and are numbered along it; a line forks off another at a commit.
So the history of a commit is a short list of lines with a last number each, and what a key holds is
the newest operation on it in those lines: one index probe a line, however long the history is.
A line is only ever continued by the reference that opened it. Moving references is `embedded_refs`.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Connection,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Row,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from rat_resources.lake.refs import (
    Commit,
    Content,
    Delete,
    Difference,
    Entry,
    IcebergTable,
    Key,
    Namespace,
    Put,
)
from rat_resources.metadata.base import Json, LakeBase

PAGE = 200


class LineRow(LakeBase):
    """A run of commits, each the first parent of the next."""

    __tablename__ = "lines"
    __table_args__ = (
        CheckConstraint("(parent_line IS NULL) = (parent_seq IS NULL)", name="parent"),
        Index("ix_lines_parent", "parent_line", "parent_seq"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    parent_line: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("lake.lines.id")
    )
    parent_seq: Mapped[int | None] = mapped_column(BigInteger)


class CommitRow(LakeBase):
    """A commit; `seq` counts the commits from the first one to it along the first parents."""

    __tablename__ = "commits"
    __table_args__ = (
        UniqueConstraint("line", "seq"),
        ForeignKeyConstraint(
            ["merged_line", "merged_seq"], ["lake.commits.line", "lake.commits.seq"]
        ),
        CheckConstraint(
            "(merged_hash IS NULL) = (merged_line IS NULL)"
            " AND (merged_line IS NULL) = (merged_seq IS NULL)",
            name="merged",
        ),
        Index(
            "ix_commits_merged",
            "merged_line",
            "merged_seq",
            postgresql_where=text("merged_line IS NOT NULL"),
        ),
    )

    hash: Mapped[str] = mapped_column(Text, primary_key=True)
    line: Mapped[int] = mapped_column(BigInteger, ForeignKey("lake.lines.id"))
    seq: Mapped[int] = mapped_column(BigInteger)
    parent_hash: Mapped[str | None]
    merged_hash: Mapped[str | None]  # the commit that this one merged
    merged_line: Mapped[int | None] = mapped_column(BigInteger)
    merged_seq: Mapped[int | None] = mapped_column(BigInteger)
    message: Mapped[str]
    authors: Mapped[list[str]]
    properties: Mapped[Json]
    # Not now(): a merge in a long transaction is committed when it is made.
    committed_at: Mapped[datetime] = mapped_column(
        server_default=text("clock_timestamp()")
    )


class OperationRow(LakeBase):
    """What one commit let one key hold; no content: nothing any more."""

    __tablename__ = "operations"
    __table_args__ = (
        ForeignKeyConstraint(
            ["line", "seq"], ["lake.commits.line", "lake.commits.seq"]
        ),
        Index("ix_operations_commit", "line", "seq"),
    )

    line: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    key: Mapped[list[str]] = mapped_column(ARRAY(Text()), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    content: Mapped[Json | None]


class ReferenceRow(LakeBase):
    """A branch or tag. `line` is the line that it opened, once it has commits of its own."""

    __tablename__ = "refs"
    __table_args__ = (CheckConstraint("type IN ('BRANCH', 'TAG')", name="type"),)

    name: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    type: Mapped[str]
    hash: Mapped[str] = mapped_column(ForeignKey("lake.commits.hash"))
    line: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("lake.lines.id"))
    created_at: Mapped[datetime] = mapped_column(
        server_default=text("clock_timestamp()")
    )


@dataclass(frozen=True)
class Position:
    """Where a commit stands."""

    hash: str
    line: int
    seq: int


@dataclass(frozen=True)
class Segment:
    """The commits of a line after *low* up to *high*."""

    line: int
    high: int
    low: int = 0


Chain = list[Segment]  # a commit's history along the first parents, its own line first


def chain_of(connection: Connection, position: Position) -> Chain:
    """The lines that *position* and its first parents lie on."""
    rows = connection.execute(CHAIN, {"line": position.line, "seq": position.seq})
    return [Segment(row.line, row.high, row.low) for row in rows]


CHAIN = text("""
    WITH RECURSIVE chain AS (
        SELECT id AS line, CAST(:seq AS bigint) AS high, parent_line, parent_seq, 0 AS depth
        FROM lake.lines
        WHERE id = :line
        UNION ALL
        SELECT l.id, chain.parent_seq, l.parent_line, l.parent_seq, chain.depth + 1
        FROM chain
        JOIN lake.lines AS l ON l.id = chain.parent_line
    )
    SELECT line, high, COALESCE(parent_seq, 0) AS low
    FROM chain
    ORDER BY depth
""")


def contains(chain: Chain, position: Position) -> bool:
    """Whether *position* is in the history that *chain* is."""
    return any(
        segment.line == position.line and segment.low < position.seq <= segment.high
        for segment in chain
    )


def contents_at(
    connection: Connection, chain: Chain, keys: Iterable[Key]
) -> dict[Key, Content]:
    """What *keys* hold at the head of *chain*."""
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    rows = connection.execute(
        CONTENTS,
        {
            "lines": [segment.line for segment in chain],
            "highs": [segment.high for segment in chain],
            "keys": [encode_key(key) for key in wanted],
        },
    )
    return {
        wanted[row.position - 1]: decode_content(row.content)
        for row in rows
        if row.content is not None
    }


# Arrays of arrays must be rectangular in Postgres, so a key travels as JSON. The comparison of rows is
# what only the primary key can answer; asked for `key = … ORDER BY seq DESC`, Postgres walks the whole
# line back to a key that changed long ago.
CONTENTS = text("""
    SELECT k.position, found.content
    FROM unnest(CAST(:keys AS jsonb[])) WITH ORDINALITY AS k (key, position)
    CROSS JOIN LATERAL (
        SELECT ARRAY(SELECT jsonb_array_elements_text(k.key)) AS elements
    ) AS e
    CROSS JOIN LATERAL (
        SELECT newest.content
        FROM unnest(CAST(:lines AS bigint[]), CAST(:highs AS bigint[]))
            WITH ORDINALITY AS chain (line, high, depth)
        CROSS JOIN LATERAL (
            SELECT o.key, o.content
            FROM lake.operations AS o
            WHERE o.line = chain.line AND (o.key, o.seq) <= (e.elements, chain.high)
            ORDER BY o.key DESC, o.seq DESC
            LIMIT 1
        ) AS newest
        WHERE newest.key = e.elements
        ORDER BY chain.depth
        LIMIT 1
    ) AS found
""")


def entries_at(connection: Connection, chain: Chain, prefix: Key) -> list[Entry]:
    """Every key under *prefix* that holds something at the head of *chain*, by key."""
    keys: set[Key] = set()
    for segment in chain:
        rows = connection.execute(
            KEYS,
            {"line": segment.line, "prefix": list(prefix), "length": len(prefix)},
        )
        keys.update(tuple(row.key) for row in rows)
    contents = contents_at(connection, chain, keys)
    return [Entry(key, contents[key]) for key in sorted(contents)]


# From each key straight to the next: a table that was committed 10 000 times is one probe.
KEYS = text("""
    WITH RECURSIVE keys AS (
        (
            SELECT key
            FROM lake.operations
            WHERE line = :line AND key >= CAST(:prefix AS text[])
            ORDER BY key
            LIMIT 1
        )
        UNION ALL
        SELECT following.key
        FROM keys
        CROSS JOIN LATERAL (
            SELECT o.key
            FROM lake.operations AS o
            WHERE o.line = :line AND o.key > keys.key
            ORDER BY o.key
            LIMIT 1
        ) AS following
        WHERE keys.key[1:CAST(:length AS integer)] = CAST(:prefix AS text[])
    )
    SELECT key
    FROM keys
    WHERE key[1:CAST(:length AS integer)] = CAST(:prefix AS text[])
""")


def differences(
    connection: Connection, before: Chain, after: Chain
) -> list[Difference]:
    """Every key that holds something else after than before, by key."""
    shared = shared_history(before, after)
    touched = [*_since(before, shared), *_since(after, shared)]
    keys = _touched_keys(connection, touched)
    old, new = (contents_at(connection, chain, keys) for chain in (before, after))
    return [
        Difference(key, old.get(key), new.get(key))
        for key in sorted(keys)
        if old.get(key) != new.get(key)
    ]


def shared_history(one: Chain, other: Chain) -> Segment | None:
    """The newest commits that two chains have in common, up to the fork."""
    highs = {segment.line: segment.high for segment in other}
    for segment in one:
        if segment.line in highs:
            high = min(segment.high, highs[segment.line])
            return Segment(segment.line, high, segment.low)
    return None


def _since(chain: Chain, shared: Segment | None) -> list[Segment]:
    """The part of *chain* that is newer than *shared*."""
    newer = []
    for segment in chain:
        if shared is not None and segment.line == shared.line:
            newer.append(Segment(segment.line, segment.high, shared.high))
            break
        newer.append(segment)
    return newer


def _touched_keys(connection: Connection, segments: Sequence[Segment]) -> set[Key]:
    keys: set[Key] = set()
    for segment in segments:
        rows = connection.execute(
            text("""
                SELECT DISTINCT key
                FROM lake.operations
                WHERE line = :line AND seq > :low AND seq <= :high
            """),
            {"line": segment.line, "low": segment.low, "high": segment.high},
        )
        keys.update(tuple(row.key) for row in rows)
    return keys


def log_page(
    connection: Connection, segment: Segment, *, limit: int
) -> list[tuple[Position, Commit]]:
    """The newest commits of *segment*, newest first."""
    rows = connection.execute(
        text("""
            SELECT *
            FROM lake.commits
            WHERE line = :line AND seq > :low AND seq <= :high
            ORDER BY seq DESC
            LIMIT :limit
        """),
        {
            "line": segment.line,
            "low": segment.low,
            "high": segment.high,
            "limit": limit,
        },
    ).all()
    operations = _operations_of(connection, rows)
    return [
        (
            Position(row.hash, row.line, row.seq),
            _commit(row, operations.get(row.seq, ())),
        )
        for row in rows
    ]


def _operations_of(
    connection: Connection, rows: Sequence[Row[Any]]
) -> dict[int, list[Put | Delete]]:
    found: dict[int, list[Put | Delete]] = {}
    if rows:
        for row in connection.execute(
            text("""
                SELECT seq, key, content
                FROM lake.operations
                WHERE line = :line AND seq BETWEEN :first AND :last
                ORDER BY seq, key
            """),
            {"line": rows[0].line, "first": rows[-1].seq, "last": rows[0].seq},
        ):
            found.setdefault(row.seq, []).append(_operation(row))
    return found


def _operation(row: Row[Any]) -> Put | Delete:
    key = tuple(row.key)
    return Delete(key) if row.content is None else Put(key, decode_content(row.content))


def _commit(row: Row[Any], operations: Sequence[Put | Delete]) -> Commit:
    return Commit(
        hash=row.hash,
        parents=tuple(h for h in (row.parent_hash, row.merged_hash) if h is not None),
        message=row.message,
        authors=tuple(row.authors),
        time=row.committed_at,
        properties=row.properties,
        operations=tuple(operations),
    )


def common_ancestor(
    connection: Connection, source: Chain, target: Chain
) -> Segment | None:
    """The best common ancestor of two histories, as the last commit of the segment returned.

    None of the other common ancestors descends from it.
    """
    shared = shared_history(source, target)
    if shared is None:
        return None
    own = [segment for segment in _since(source, shared) if segment.high > segment.low]
    if not own:
        return shared
    if connection.scalar(MERGED_ANYTHING, _segments(own)):
        trunk = [shared, *source[_index(source, shared) + 1 :]]
        return _newest_in_common(connection, source, target, trunk)
    found = connection.execute(CARRIED, _segments(own) | _lines(target)).first()
    return Segment(found.line, found.seq) if found else shared


def _index(chain: Chain, segment: Segment) -> int:
    return [other.line for other in chain].index(segment.line)


MERGED_ANYTHING = text("""
    SELECT EXISTS (
        SELECT 1
        FROM unnest(CAST(:lines AS bigint[]), CAST(:lows AS bigint[]), CAST(:highs AS bigint[]))
            AS own (line, low, high)
        JOIN lake.commits AS c ON c.line = own.line AND c.seq > own.low AND c.seq <= own.high
        WHERE c.merged_line IS NOT NULL
    )
""")

# A branch that merged nothing has no ancestors but its first parents: the best is the newest of its
# own commits that some merge carried into the target. From those commits the search goes forwards,
# and ends where it meets the target, so it never wanders through all that main has merged since.
CARRIED = text("""
    WITH RECURSIVE own AS (
        SELECT *
        FROM unnest(CAST(:lines AS bigint[]), CAST(:lows AS bigint[]), CAST(:highs AS bigint[]))
            WITH ORDINALITY AS own (line, low, high, depth)
    ),
    target AS (
        SELECT *
        FROM unnest(CAST(:target_lines AS bigint[]), CAST(:target_highs AS bigint[]))
            AS target (line, high)
    ),
    carried AS (
        SELECT c.line, c.seq, own.line AS own_line, c.merged_seq AS own_seq, own.depth
        FROM own
        JOIN lake.commits AS c
            ON c.merged_line = own.line AND c.merged_seq > own.low AND c.merged_seq <= own.high
        UNION
        SELECT l.id, l.parent_seq + 1, own.line, l.parent_seq, own.depth
        FROM own
        JOIN lake.lines AS l
            ON l.parent_line = own.line AND l.parent_seq > own.low AND l.parent_seq <= own.high
        UNION
        SELECT following.line, following.seq, carried.own_line, carried.own_seq, carried.depth
        FROM carried
        CROSS JOIN LATERAL (
            SELECT c.line, c.seq
            FROM lake.commits AS c
            WHERE c.merged_line = carried.line AND c.merged_seq >= carried.seq
            UNION ALL
            SELECT l.id, l.parent_seq + 1
            FROM lake.lines AS l
            WHERE l.parent_line = carried.line AND l.parent_seq >= carried.seq
        ) AS following
        WHERE NOT EXISTS (
            SELECT 1
            FROM target
            WHERE target.line = carried.line AND target.high >= carried.seq
        )
    )
    SELECT carried.own_line AS line, carried.own_seq AS seq
    FROM carried
    JOIN target ON target.line = carried.line AND carried.seq <= target.high
    ORDER BY carried.depth, carried.own_seq DESC
    LIMIT 1
""")


def _newest_in_common(
    connection: Connection, source: Chain, target: Chain, trunk: Chain
) -> Segment:
    """The common ancestor that was committed last; nothing in common can descend from it."""
    arguments = {
        "sides": ["source"] * len(source) + ["target"] * len(target),
        "lines": [segment.line for segment in (*source, *target)],
        "highs": [segment.high for segment in (*source, *target)],
        "trunk_lines": [segment.line for segment in trunk],
        "trunk_highs": [segment.high for segment in trunk],
    }
    found = connection.execute(IN_COMMON, arguments).one()
    return Segment(found.line, found.seq)


# Backwards from both heads through every merge, down to the trunk that they share anyway. This walks
# all that was merged since the fork, and only a branch that merged something itself has to.
IN_COMMON = text("""
    WITH RECURSIVE trunk AS (
        SELECT *
        FROM unnest(CAST(:trunk_lines AS bigint[]), CAST(:trunk_highs AS bigint[]))
            AS trunk (line, high)
    ),
    reached AS (
        SELECT *
        FROM unnest(CAST(:sides AS text[]), CAST(:lines AS bigint[]), CAST(:highs AS bigint[]))
            AS heads (side, line, high)
        UNION
        SELECT reached.side, previous.line, previous.high
        FROM reached
        LEFT JOIN trunk ON trunk.line = reached.line
        CROSS JOIN LATERAL (
            SELECT c.merged_line, c.merged_seq
            FROM lake.commits AS c
            WHERE c.line = reached.line
                AND c.seq > COALESCE(trunk.high, 0)
                AND c.seq <= reached.high
                AND c.merged_line IS NOT NULL
            UNION ALL
            SELECT l.parent_line, l.parent_seq
            FROM lake.lines AS l
            WHERE l.id = reached.line AND l.parent_line IS NOT NULL
        ) AS previous (line, high)
    ),
    highest AS (
        SELECT side, line, max(high) AS high
        FROM reached
        GROUP BY side, line
    ),
    common AS (
        SELECT line, min(high) AS seq
        FROM highest
        GROUP BY line
        HAVING count(*) = 2
    )
    SELECT common.line, common.seq
    FROM common
    JOIN lake.commits AS c ON c.line = common.line AND c.seq = common.seq
    ORDER BY c.committed_at DESC
    LIMIT 1
""")


def _segments(segments: list[Segment]) -> dict[str, list[int]]:
    return {
        "lines": [segment.line for segment in segments],
        "lows": [segment.low for segment in segments],
        "highs": [segment.high for segment in segments],
    }


def encode_key(key: Key) -> str:
    """*key* as a query takes it."""
    return json.dumps(key)


def encode_content(content: Content) -> dict[str, Any]:
    """*content* as a row keeps it."""
    kind = "ICEBERG_TABLE" if isinstance(content, IcebergTable) else "NAMESPACE"
    return {"type": kind, **asdict(content)}


def decode_content(row: dict[str, Any]) -> Content:
    """The content that a row keeps."""
    values = {name: value for name, value in row.items() if name != "type"}
    return (
        IcebergTable(**values)
        if row["type"] == "ICEBERG_TABLE"
        else Namespace(**values)
    )


def _lines(chain: Chain) -> dict[str, list[int]]:
    return {
        "target_lines": [segment.line for segment in chain],
        "target_highs": [segment.high for segment in chain],
    }
