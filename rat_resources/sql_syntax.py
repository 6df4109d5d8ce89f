"""SQL that DuckDB cannot parse: where the mistake is, and what its author probably meant.

DuckDB says at which word it gave up; the word that is wrong is often the one before it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import duckdb

from rat_resources.names import nearest
from rat_resources.sql_tokens import tokens

STARTS = ("SELECT", "WITH", "FROM", "VALUES")
CLAUSES = (
    *STARTS,
    "WHERE",
    "GROUP",
    "ORDER",
    "HAVING",
    "QUALIFY",
    "JOIN",
    "LIMIT",
    "UNION",
)
# What nobody calls a column or a table, so it stands where it should not.
GRAMMAR = frozenset(
    (*CLAUSES, "ON", "AS", "BY", "AND", "OR", "NOT", "CASE", "WHEN", "THEN", "ELSE")
) - {"GROUP", "ORDER", "LIMIT"}
AFTER_A_NAME = ("", ",", ")", "AS", "FROM", ";")
NEAR = re.compile(r'at or near "(.*)"?$', re.DOTALL)


@dataclass(frozen=True)
class Mistake:
    """What DuckDB would not take, and the 0-based line of the query that it is in."""

    line: int
    what: str
    fix: str


@dataclass(frozen=True)
class Word:
    """One word or sign of a query, and the 0-based line that it stands on."""

    text: str
    line: int
    start: int  # in characters

    @property
    def upper(self) -> str:
        """The word as keywords are compared."""
        return self.text.upper()


def explain(sql: str, answer: dict[str, Any]) -> Mistake:
    """The mistake that `json_serialize_sql` answered with."""
    position = int(answer.get("position") or len(sql.encode()))
    start = len(sql.encode()[:position].decode(errors="ignore"))
    message = answer["error_message"].partition("\n")[0]
    line = sql.count("\n", 0, start)
    if "unterminated" in message:
        return unclosed(message, line=line)
    if re.search(r'""[\w.-]+""', sql) and '""' in message:
        what = "there are quotes around {{ … }}, which writes its own"
        return Mistake(line, what, "remove them: {{ ref('layer.name') }}, {{ this }}")
    words = words_of(sql)
    at = next((n for n, word in enumerate(words) if word.start >= start), len(words))
    found = NEAR.search(message)
    shown = found[1].strip('"') if found else ""
    what = "DuckDB cannot parse this: " + (
        f'syntax error at or near "{shown}"' if shown else message
    )
    return guess(words, at=at, line=line, what=what) or Mistake(
        line, what, "correct the SQL"
    )


def unclosed(message: str, *, line: int) -> Mistake:
    """A quote or a comment that has no end."""
    if "comment" in message:
        return Mistake(line, "a /* comment is never closed", "close it with */")
    what = "a quote is opened here and never closed"
    return Mistake(line, what, "close it; inside a text, write a quote twice: ''")


def words_of(sql: str) -> list[Word]:
    """The words and signs of *sql*, without its comments and blanks."""
    words, line, start = [], 0, 0
    for kind, text in tokens(sql):
        if kind == "code" and not text.isspace():
            words.append(Word(text, line, start))
        line += text.count("\n")
        start += len(text)
    return words


def guess(words: Sequence[Word], *, at: int, line: int, what: str) -> Mistake | None:
    """What the author probably meant, where the words around the error tell."""
    here, before = word_at(words, at), word_at(words, at - 1)
    after = word_at(words, at + 1)
    if here.text == "{":
        return Mistake(line, "Jinja's braces are two", "write {{ … }}")
    if before.text in ("", "(") and (meant := misspelt(here, STARTS)):
        return Mistake(line, what, f"did you mean {meant}?")
    if meant := misspelt(before, CLAUSES):
        fix = f"did you mean {meant}, not {before.text}?"
        return Mistake(before.line, what, fix)
    for word, follower in ((here, after), (before, here)):
        if (
            is_taken(word)
            and follower.upper in AFTER_A_NAME
            and "CASE" not in map(str.upper, (each.text for each in words))
        ):
            taken = f"{word.text} is a word of SQL and cannot be a name as it is"
            fix = f'write "{word.text}" in double quotes, or choose another name'
            return Mistake(word.line, taken, fix)
    if opened := open_parenthesis(words):
        return Mistake(opened.line, "a ( is opened here and never closed", "close it")
    return None


def word_at(words: Sequence[Word], at: int) -> Word:
    """The word at an index; an empty one outside."""
    return words[at] if 0 <= at < len(words) else Word("", 0, 0)


def misspelt(word: Word, known: Sequence[str]) -> str | None:
    """The keyword that *word* probably should be; None where it is one, or is no word."""
    if not word.text.isalpha() or word.upper.lower() in keywords():
        return None
    return nearest(word.upper, known)


def is_taken(word: Word) -> bool:
    """Whether SQL has a use of its own for what somebody may want to call something."""
    return word.upper not in GRAMMAR and word.upper.lower() in keywords()


@cache
def keywords() -> frozenset[str]:
    """Every keyword of DuckDB."""
    with duckdb.connect(":memory:", config={"threads": 1}) as connection:
        rows = connection.execute("SELECT keyword_name FROM duckdb_keywords()")
        return frozenset(name for (name,) in rows.fetchall())


def open_parenthesis(words: Sequence[Word]) -> Word | None:
    """The last parenthesis that nothing closes."""
    opened = []
    for word in words:
        if word.text == "(":
            opened.append(word)
        elif word.text == ")" and opened:
            opened.pop()
    return opened[-1] if opened else None
