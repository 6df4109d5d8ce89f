"""What is wrong with a landing file, in the words of whoever put it there."""

from pathlib import Path

import duckdb
import pytest

from rat_resources.diagnosis import blamed, diagnose

CASES = {
    "a.csv": (b"", "it is empty"),
    "b.csv": (b"\x1f\x8b\x08\x00", "compressed by gzip"),
    "c.csv": (b"PK\x03\x04", "Excel workbook"),
    "d.csv": ("a,b\n1,ü\n".encode("utf-16"), "UTF-16 text"),
    "e.csv": (b"a,b\n1,2\n\xfc,4\n", "line 3 is no UTF-8 text"),
    "f.csv": (b"a,b\n1,2\n1,2,3\n", "line 3 has 3 values, and the header has 2"),
    "g.csv": (b"a,b\n1,2\n1", "half-written"),
    "h.csv": (b'a,b\n1,"2\n', "a quote is opened and never closed"),
    "i.csv": (b"a,b\n1\0,2\n", "binary data"),
    "j.parquet": (b"no parquet", "j.parquet"),
    # A quoted line break is no second line.
    "k.csv": (b'a,b\n"1\n1",2\n1\n', "line 4 has 1 value"),
    "l.csv": (b"a;b\n1;2\n1;2;3\n", "line 3 has 3 values"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_file_is_diagnosed_by_what_is_in_it(name: str, tmp_path: Path) -> None:
    content, said = CASES[name]
    path = tmp_path / name
    path.write_bytes(content)

    found = diagnose(path, f"IO Error: {path} cannot be read\nat all")

    assert said in found
    assert str(tmp_path) not in found


def test_a_value_is_named_with_its_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("n,m\n1,1\nx,1\n")
    query = f"FROM read_csv('{path}', columns = {{'n': 'INT', 'm': 'INT'}})"

    with pytest.raises(duckdb.Error) as raised:
        duckdb.sql(query).fetchall()

    message = str(raised.value)
    assert diagnose(path, message) == "line 3: column n holds 'x', which is no INTEGER"


def test_the_file_that_duckdb_stumbled_over_is_blamed_not_its_neighbour() -> None:
    paths = [Path("/zone/a.csv"), Path("/zone/a.csv.csv"), Path("/zone/b.csv")]

    assert blamed("/zone/a.csv.csv is bad", paths) == paths[1]
    assert blamed("/zone/a.csv … Current file: /zone/b.csv", paths) == paths[2]
    assert blamed("something else", paths) is None
