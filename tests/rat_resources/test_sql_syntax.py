"""Where SQL that DuckDB cannot parse is wrong, and what its author probably meant."""

import pytest

from rat_resources.sql_syntax import words_of
from rat_resources.statements import read_query

CASES = {
    "SELEC a FROM t": (0, "SELECT?"),
    "SELECT a\nFORM t\nWHERE b": (1, "did you mean FROM, not FORM?"),
    "SELECT a FROM t WERE b = 1": (0, "did you mean WHERE, not WERE?"),
    "SELECT\n  order\nFROM t": (1, 'write "order" in double quotes'),
    "SELECT (a\nFROM t": (0, "close it"),
    "SELECT 'a\nFROM t": (0, "write a quote twice"),
    "SELECT 1 /* a": (0, "close it with */"),
    "SELECT a FROM { this }": (0, "write {{ … }}"),
    "SELECT a,\nFROM t\nWHERE (": (2, "close it"),
    # What stands in comments and texts is no word of the query.
    "-- FORM\nSELECT 'FORM' AS a FROM t WERE b": (1, "did you mean WHERE, not WERE?"),
}


@pytest.mark.parametrize("sql", CASES)
def test_a_mistake_is_explained_where_it_was_made(sql: str) -> None:
    line, fix = CASES[sql]

    (mistake,) = read_query(sql).mistakes

    assert mistake.line == line
    assert fix in mistake.fix


def test_words_know_their_lines_and_places() -> None:
    words = words_of("SELECT a, -- not\n/* these\n */ 'b\nc'\nFROM t")

    assert [(each.text, each.line, each.start) for each in words] == [
        ("SELECT", 0, 0),
        ("a", 0, 7),
        (",", 0, 8),
        ("'b\nc'", 2, 30),
        ("FROM", 4, 36),
        ("t", 4, 41),
    ]
