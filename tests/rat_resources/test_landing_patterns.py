"""Which files of a landing zone the paths in a query match."""

from pathlib import Path

import duckdb
import pytest

from rat_resources.landing_patterns import find_unread

CASES = {
    "SELECT * FROM read_csv('{zone}/a*.csv')": ["b1.csv"],
    "FROM read_csv(['{zone}/a*.csv', '{zone}/b*.csv'])": [],
    "FROM read_csv($${zone}/b*.csv$$)": ["a1.csv"],
    "FROM read_csv(e'{zone}/b*.csv')": ["a1.csv"],
    # A path that the query puts together tells nothing.
    "FROM read_csv('{zone}' || '/a*.csv')": [],
    "SELECT replace(filename, '{zone}/', '') FROM read_csv('{zone}/a*.csv')": [
        "b1.csv"
    ],
    "FROM read_csv('{zone}/none.csv')": [],
    "SELECT 1": [],
    # An apostrophe outside of texts begins none.
    (
        "-- don't\nFROM read_csv('{zone}/a*.csv')\n"
        "UNION ALL\n-- it's\nFROM read_csv('{zone}/b*.csv')"
    ): [],
    (
        "/* don't */ SELECT a AS \"it's\" FROM read_csv('{zone}/a*.csv')"
        " UNION ALL FROM read_csv('{zone}/b*.csv')"
    ): [],
}


@pytest.mark.parametrize("sql", CASES)
def test_a_file_is_unread_only_where_the_paths_tell(sql: str, tmp_path: Path) -> None:
    names = ["a1.csv", "b1.csv"]
    for name in names:
        (tmp_path / name).write_text("a\n1\n")

    unread = find_unread(
        duckdb.connect(),
        sql.replace("{zone}", str(tmp_path)),
        folder=tmp_path,
        names=names,
    )

    assert unread == CASES[sql]
