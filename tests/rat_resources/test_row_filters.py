"""Row filters: what they match, and what they refuse."""

import json
from typing import Any

import duckdb
import pytest

from rat_resources.errors import FilterError
from rat_resources.row_filters import WHOLE, of_partition, parse, together

COLUMNS = {
    "id": "bigint",
    "small": "integer",
    "price": "decimal(10,2)",
    "ratio": "double",
    "near": "float",
    "name": "varchar",
    "paid": "boolean",
    "day": "date",
    "at": "timestamp",
    "seen": "timestamp with time zone",
    "hour": "time",
    "key": "uuid",
    "tags": "varchar[]",
    "who": "struct(a integer)",
    "raw": "blob",
    'od"d; DROP TABLE rows --': "varchar",
}
UUID_TEXT = "0b7c1d2e-0000-4000-8000-000000000001"
ROWS: list[dict[str, Any]] = [
    {
        "id": 1,
        "small": 1,
        "price": "1.10",
        "ratio": 0.1,
        "near": 0.1,
        "name": "o'brien",
        "paid": True,
        "day": "2026-01-01",
        "at": "2026-01-01 10:00:00",
        "seen": "2026-01-01 10:00:00+00",
        "hour": "10:00:00",
        "key": UUID_TEXT,
        'od"d; DROP TABLE rows --': "x",
    },
    {
        "id": 2,
        "small": 2,
        "price": "2.20",
        "ratio": "nan",
        "near": 2.5,
        "name": "'); DROP TABLE rows; --",
        "paid": False,
        "day": "2026-01-02",
        "at": "2026-01-02 10:00:00.000001",
        "seen": "2026-01-02 10:00:00+00",
        "hour": "11:00:00",
        'od"d; DROP TABLE rows --': "y",
    },
    {"id": 3},
]


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    columns = ", ".join(
        f'"{name.replace(chr(34), chr(34) * 2)}" {kind}'
        for name, kind in COLUMNS.items()
    )
    connection.execute(f"CREATE TABLE rows ({columns})")
    for row in ROWS:
        connection.execute(
            f"INSERT INTO rows VALUES ({', '.join('?' * len(COLUMNS))})",
            [row.get(name) for name in COLUMNS],
        )
    return connection


def ids(connection: duckdb.DuckDBPyConnection, document: object) -> list[int]:
    """The rows that a filter matches, by what `WHERE` and what its document says."""
    found = parse(document, columns=COLUMNS)
    again = parse(json.loads(json.dumps(found.to_json())), columns=COLUMNS)
    assert again.sql() == found.sql()
    query = f"SELECT id FROM rows WHERE {found.sql(of='rows')} ORDER BY id"
    matching = [row[0] for row in connection.execute(query).fetchall()]
    left = f"SELECT count(*) FROM rows WHERE ({found.sql()}) IS NOT TRUE"
    ((others,),) = connection.execute(left).fetchall()
    assert others == len(ROWS) - len(matching)
    return matching


@pytest.mark.parametrize(
    ("document", "matching"),
    [
        ({}, [1, 2, 3]),
        ({"id": 2}, [2]),
        ({"ID": 2}, [2]),
        ({"id": "2"}, [2]),
        ({"id": 2.0}, [2]),
        ({"id": [1, 3, 3, 99]}, [1, 3]),
        ({"id": []}, []),
        ({"id": {"in": [2]}}, [2]),
        ({"id": {"gt": 1, "lte": 3}}, [2, 3]),
        ({"id": {"gte": 2}, "paid": False}, [2]),
        ({"small": {"lt": 2}}, [1]),
        ({"price": 1.1}, [1]),
        ({"price": {"gte": "1.100", "lt": 2.2}}, [1]),
        ({"price": "0e-999999999"}, []),
        ({"ratio": 0.1}, [1]),
        ({"ratio": "NaN"}, [2]),
        ({"ratio": {"lt": "inf"}}, [1]),
        ({"near": 0.1}, [1]),
        ({"name": "o'brien"}, [1]),
        ({"name": "'); DROP TABLE rows; --"}, [2]),
        ({"name": ["\\", "%", "\x00", "☃", "o'brien"]}, [1]),
        ({"paid": True}, [1]),
        ({"paid": [False, True]}, [1, 2]),
        ({"day": {"gte": "2026-01-02"}}, [2]),
        ({"at": "2026-01-02T10:00:00.000001"}, [2]),
        ({"at": {"lt": "2026-01-02"}}, [1]),
        ({"seen": "2026-01-01T12:00:00+02:00"}, [1]),
        ({"seen": "2026-01-01T10:00:00Z"}, [1]),
        ({"seen": "2026-01-01T10:00:00"}, [1]),
        ({"hour": {"gt": "10:00:00"}}, [2]),
        ({"key": UUID_TEXT.upper()}, [1]),
        ({'od"d; DROP TABLE rows --': "y"}, [2]),
    ],
)
def test_a_filter_matches_the_rows_that_its_document_names(
    connection: duckdb.DuckDBPyConnection, document: object, matching: list[int]
) -> None:
    assert ids(connection, document) == matching


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "is an object of columns, not []"),
        ("id = 1", "is an object of columns"),
        (None, "is an object of columns, not None"),
        ({"nmae": 1}, "'nmae', which is not there; did you mean 'name'?"),
        ({"1=1; --": 1}, "which is not there"),
        ({7: 1}, "which is not there"),
        ({"id": {"gtt": 1}}, "'gtt', which is no operator; did you mean 'gt'?"),
        ({"id": {"=": 1}}, "no operator; use eq, gt, gte, lt, lte, in"),
        ({"id": {}}, "asked with no operator"),
        ({"id": {"eq": {"a": {"b": 1}}}}, "does not compare with"),
        ({"id": [[1]]}, "does not compare with [1]"),
        ({"id": {"in": 1}}, "`in` takes a list"),
        ({"id": {"gt": [1]}}, "does not compare with [1]"),
        ({"id": None}, "null, which never matches"),
        ({"id": [1, None]}, "null, which never matches"),
        ({"id": True}, "bigint, which does not compare with True"),
        ({"id": 1.5}, "does not compare with 1.5"),
        ({"id": float("inf")}, "does not compare with inf"),
        ({"id": 2**63}, "does not compare with"),
        ({"small": 2**31}, "integer, which does not compare"),
        ({"id": "1); DROP TABLE rows"}, "does not compare with"),
        ({"id": "9" * 5000}, "does not compare with"),
        ({"id": 1, "ID": 2}, "column 'id' is named twice with eq"),
        ({"price": 1.001}, "does not compare with 1.001"),
        ({"price": "1e9"}, "does not compare with"),
        ({"price": "NaN"}, "does not compare with"),
        ({"price": "10e-999999999"}, "does not compare with"),
        ({"price": False}, "does not compare with False"),
        ({"ratio": "much"}, "does not compare with"),
        ({"ratio": True}, "does not compare with True"),
        ({"ratio": 10**400}, "does not compare with"),
        ({"name": 1}, "put the text in quotes"),
        ({"name": "\ud800"}, "does not compare with"),
        ({"paid": 1}, "use true or false"),
        ({"paid": "true"}, "use true or false"),
        ({"paid": {"gt": False}}, "boolean, which gt does not compare"),
        ({"day": "yesterday"}, 'write "2026-12-31"'),
        ({"day": "2026-02-30"}, 'write "2026-12-31"'),
        ({"day": 20260101}, 'write "2026-12-31"'),
        ({"at": "2026-01-01T10:00:00+02:00"}, "without a zone"),
        ({"at": 1767261600}, "does not compare with 1767261600"),
        ({"seen": "0001-01-01T00:00:00+14:00"}, "does not compare with"),
        ({"hour": "25:00"}, "does not compare with"),
        ({"key": "zz"}, "write a UUID in quotes"),
        ({"tags": ["a"]}, "by which rows cannot be told apart"),
        ({"who": {"eq": 1}}, "by which rows cannot be told apart"),
        ({"raw": "00"}, "by which rows cannot be told apart"),
    ],
)
def test_what_cannot_be_compared_is_refused_by_name(
    document: object, said: str
) -> None:
    with pytest.raises(FilterError) as refusal:
        parse(document, columns=COLUMNS)

    assert said in str(refusal.value)
    assert len(str(refusal.value)) < 500


def test_a_list_of_a_hundred_thousand_values_is_one_condition(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    many = list(range(3, 100_003))

    assert ids(connection, {"id": many}) == [3]


def test_a_filter_tells_its_columns_and_the_shortest_document() -> None:
    document = {"DAY": {"eq": "2026-01-01"}, "id": {"in": [1]}, "price": {"gt": 1}}

    found = parse(document, columns=COLUMNS)

    assert found.columns == ("day", "id", "price")
    assert found.to_json() == {
        "day": "2026-01-01",
        "id": [1],
        "price": {"gt": "1"},
    }
    assert not found.is_whole


def test_numbers_that_json_would_round_are_written_as_text() -> None:
    found = parse({"id": 2**60}, columns=COLUMNS)

    assert found.to_json() == {"id": str(2**60)}


@pytest.mark.parametrize(
    ("key", "parts", "document"),
    [
        ("2026-01-01", ["day"], {"day": "2026-01-01"}),
        ("7", ["id"], {"id": 7}),
        ("True", ["paid"], {"paid": True}),
        ("2026-01-01T10:00:00+00:00", ["seen"], {"seen": "2026-01-01T10:00:00+00:00"}),
        ("a%2Fb/7", ["name", "id"], {"name": "a/b", "id": 7}),
        ("a%2Fb", ["name"], {"name": "a%2Fb"}),
        (UUID_TEXT, ["key"], {"key": UUID_TEXT}),
    ],
)
def test_a_partition_is_a_filter_on_the_columns_that_divide_its_table(
    key: str, parts: list[str], document: dict[str, Any]
) -> None:
    found = of_partition(key, parts=parts, columns=COLUMNS)

    assert found.to_json() == document


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("all", []),
        ("null", ["name"]),
        ("null/7", ["name", "id"]),
        ("7/8", ["id"]),
        ("seven", ["id"]),
        ("7", ["gone"]),
        ("a␀b", ["name"]),
        ("x" * 300 + "…sha256:00", ["name"]),
    ],
)
def test_a_partition_that_its_name_does_not_tell_is_the_whole_table(
    key: str, parts: list[str]
) -> None:
    assert of_partition(key, parts=parts, columns=COLUMNS) == WHOLE


@pytest.mark.parametrize(
    ("documents", "fewer"),
    [
        ([{"id": 1}, {"id": 2}, {"id": [2, 3]}], [{"id": [1, 2, 3]}]),
        ([{"id": 1}, {"name": "a"}], [{"id": [1]}, {"name": ["a"]}]),
        ([{"id": {"gt": 1}}, {"id": {"gt": 1}}], [{"id": {"gt": 1}}]),
        ([{"id": 1, "name": "a"}, {"id": 1}], [{"id": [1]}, {"id": 1, "name": "a"}]),
        ([{"id": 1}, {}], [{}]),
        ([{"id": {"gt": n}} for n in range(200)], [{}]),
        ([], []),
    ],
)
def test_filters_together_are_as_few_as_can_be(
    documents: list[Any], fewer: list[Any]
) -> None:
    filters = [parse(each, columns=COLUMNS) for each in documents]

    assert [each.to_json() for each in together(filters)] == fewer
