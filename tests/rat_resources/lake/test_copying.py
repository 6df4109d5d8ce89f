"""Copying: how rows get into Parquet files; what a write makes of it is tested with streaming."""

from rat_resources.lake.copying import LEAST_GROUP, USUAL_GROUP, fitting_group
from tests.rat_resources.lake.tables import make_connection


def test_a_few_wide_rows_among_many_are_found() -> None:
    connection = make_connection()
    connection.execute("SET memory_limit = '80MB'")
    late = "CASE WHEN i >= 9000 THEN repeat('x', 10000) ELSE 'x' END"

    narrow = fitting_group(connection, "SELECT i FROM range(10000) AS t(i)")
    wide = fitting_group(connection, f"SELECT {late} FROM range(10000) AS t(i)")

    assert (narrow, wide) == (USUAL_GROUP, LEAST_GROUP)
