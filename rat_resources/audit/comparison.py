"""A comparison: two sides that must say the same of the same things, and the words for when they don't.

A side is a query of rows with an `id`; its other columns are what it says of that id. Rows of one id
are told apart by their order, so that a doubled row finds no partner and is a difference.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row, TextClause, text
from sqlalchemy.orm import Session

from rat_resources.mirror import translations
from rat_resources.platform import Platform

Said = Mapping[str, Any]

MIRROR = "run `rat mirror`"
REBUILD = "run `rat mirror --rebuild`"
RECONCILE = "run `rat reconcile`"
SOMEBODY = "somebody wrote there by hand; restore it from a backup"


@dataclass(frozen=True)
class Scene:
    """The moment that is looked at."""

    whole: Platform
    tx: Session
    head: str  # the commit of main
    branches: tuple[str, ...]  # of runs
    # A walk through all of main is made once, whoever asks for it.
    known: dict[object, Mapping[str, Any]] = field(default_factory=dict, compare=False)

    def find(self, gather: Callable[["Scene"], Mapping[str, Any]]) -> Mapping[str, Any]:
        """What *gather* finds at this moment."""
        if gather not in self.known:
            self.known[gather] = gather(self)
        return self.known[gather]


@dataclass(frozen=True)
class Side:
    """Who says something, and the query of what."""

    speaker: str
    sql: str


@dataclass(frozen=True)
class Comparison:
    """Two sides that must agree, row by row."""

    name: str
    what: str
    one: Side
    other: Side
    fix: str
    gather: Callable[[Scene], Mapping[str, Any]] | None = (
        None  # what is not in Postgres
    )

    @property
    def statement(self) -> TextClause:
        """The query of what differs: everything is counted, the first are told."""
        return text(COMPARED.format(one=self.one.sql, other=self.other.sql))


COMPARED = """
WITH one AS MATERIALIZED (
    SELECT said.*, row_number() OVER (PARTITION BY said.id) AS nth FROM ({one}) AS said
),
other AS MATERIALIZED (
    SELECT said.*, row_number() OVER (PARTITION BY said.id) AS nth FROM ({other}) AS said
)
SELECT
    coalesce(one.id, other.id) AS id,
    coalesce(one.nth, other.nth) AS nth,
    to_jsonb(one) - 'id' - 'nth' AS one,
    to_jsonb(other) - 'id' - 'nth' AS other,
    count(*) OVER () AS total
FROM one
FULL JOIN other ON other.id = one.id AND other.nth = one.nth
WHERE to_jsonb(one) IS DISTINCT FROM to_jsonb(other)
ORDER BY 1, 2
LIMIT :at_most
"""


Gather = Callable[[Scene], Mapping[str, Any]]


def never(
    name: str,
    what: str,
    *,
    speaker: str,
    sql: str,
    expected: str,
    fix: str,
    gather: Gather | None = None,
) -> Comparison:
    """A comparison with what must not be: any row of *sql* is a difference."""
    nothing = "SELECT NULL::text AS id WHERE false"
    one, other = Side(speaker, sql), Side(expected, nothing)
    return Comparison(name, what, one, other, fix, gather)


def execute(
    tx: Session, comparison: Comparison, *, values: Mapping[str, Any]
) -> list[Row[Any]]:
    """The rows of what differs."""
    statement = comparison.statement
    known = {**WORDS, **values}
    wanted = statement.compile().params.keys()
    return list(tx.execute(statement, {each: known[each] for each in wanted}))


def words(states: Mapping[str, translations.Words], field: str) -> str:
    """How each of *states* is called somewhere, as JSON for a query."""
    return json.dumps({state: getattr(said, field) for state, said in states.items()})


WORDS: Mapping[str, Any] = {
    "rat_of_dagster": words(translations.OF_DAGSTER, "rat"),
    "result_of_dagster": words(translations.OF_DAGSTER, "result"),
    "task_of_run": words(translations.OF_RUN, "task"),
    "chm_of_run": words(translations.OF_RUN, "chm"),
    "result_of_run": words(translations.OF_RUN, "result"),
    "update_of_run": words(translations.OF_RUN, "update"),
    "chm_skipped": translations.CHM_SKIPPED,
    "result_of_step": json.dumps(dict(translations.OF_STEP)),
    "result_of_unstarted": json.dumps(dict(translations.OF_UNSTARTED)),
    "timed_out": translations.TIMED_OUT[0],
    "worker_died": translations.WORKER_DIED[0],
    "timeout_messages": list(translations.TIMEOUT_MESSAGES),
    "death_messages": list(translations.DEATH_MESSAGES),
    "retry": translations.RETRY,
    "by_hand": translations.BY_HAND,
    "triggers": json.dumps(translations.TRIGGERS),
    "labels": json.dumps(translations.LABELS),
    "type_of_layer": json.dumps(dict(translations.LAYER_TYPES)),
    "terminations": json.dumps(dict(translations.TERMINATIONS)),
}
"""The words of the schemas, as the queries take them."""


@dataclass(frozen=True)
class Difference:
    """One id of which two sides do not say the same."""

    comparison: Comparison
    id: str
    nth: int
    one: Said | None
    other: Said | None

    @property
    def line(self) -> str:
        """Where, which id, what each side says."""
        return f"{self.comparison.name} {self.id}: {self.said}; {self.comparison.fix}"

    @property
    def said(self) -> str:
        """What each side says."""
        one, other = self.comparison.one.speaker, self.comparison.other.speaker
        if self.one is None:
            return missing(other, self.other, nth=self.nth, silent=one)
        if self.other is None:
            return missing(one, self.one, nth=self.nth, silent=other)
        return ", ".join(
            f"{key}: {one} says {shown(self.one[key])}, {other} says {shown(self.other[key])}"
            for key in self.one
            if self.one[key] != self.other.get(key)
        )

    def to_json(self) -> Said:
        """The difference for a program."""
        comparison = self.comparison
        return {
            "comparison": comparison.name,
            "id": self.id,
            "line": self.line,
            "said": {
                comparison.one.speaker: self.one,
                comparison.other.speaker: self.other,
            },
            "fix": comparison.fix,
        }


@dataclass(frozen=True)
class Found:
    """What one comparison found: all of it counted, the first of it told."""

    comparison: Comparison
    total: int
    told: tuple[Difference, ...]

    @property
    def untold(self) -> int:
        """How many more there are."""
        return self.total - len(self.told)


def missing(speaker: str, said: Said | None, *, nth: int, silent: str) -> str:
    """What one side alone says."""
    facts = ", ".join(f"{key} {shown(value)}" for key, value in (said or {}).items())
    what = f"{speaker} has it{'' if nth == 1 else f' {nth} times'}"
    told = f"{what} ({facts})" if facts else what
    return f"{told}, {silent} {'does not' if nth == 1 else 'has not'}"


LONGEST = 80


def shown(value: Any) -> str:  # noqa: ANN401 - JSON
    """A value on a line, cut where it is long."""
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
