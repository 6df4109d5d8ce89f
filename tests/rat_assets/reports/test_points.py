"""What a chart shows of a table, what it leaves out, and what it cannot show."""

from datetime import UTC, datetime
from typing import Any

import duckdb
import pytest

from rat_assets.reports.points import Axis, Points, numbers, read_charts, read_points
from rat_resources.charts import Chart
from rat_resources.errors import QueryError


def chart(kind: str = "line", **words: Any) -> Chart:  # noqa: ANN401 - the fields of Chart
    y = words.pop("y", "y")
    return Chart(
        words.pop("title", "A chart"),
        kind,
        x=words.pop("x", "x"),
        y=(y,) if isinstance(y, str) else y,
        **words,
    )


def read(query: str, wanted: Chart) -> Points:
    """What a chart shows of the rows of a query."""
    return read_points(duckdb.connect(), wanted, relation=f"({query})")


def test_a_line_goes_through_its_rows_in_the_order_of_x() -> None:
    rows = "VALUES (2, 20.5), (1, 10), (3, NULL)"

    points = read(f"SELECT * FROM ({rows}) t(x, y)", chart())

    assert [(point.x, point.y) for point in points.points] == [
        (1.0, 10.0),
        (2.0, 20.5),
        (3.0, None),
    ]
    assert points.x_axis == Axis.NUMBER
    assert points.notes == ()


@pytest.mark.parametrize(
    ("value", "axis", "place"),
    [
        ("DATE '2013-02-03'", Axis.TIME, datetime(2013, 2, 3)),  # noqa: DTZ001 - UTC by name
        (
            "TIMESTAMPTZ '2013-02-03 05:00:00+02'",
            Axis.TIME,
            datetime(2013, 2, 3, 3),  # noqa: DTZ001 - UTC by name
        ),
        ("1.50::DECIMAL(9, 2)", Axis.NUMBER, 1.5),
        ("7::UBIGINT", Axis.NUMBER, 7.0),
        ("'Zürich ✈'", Axis.NAME, "Zürich ✈"),
        ("true", Axis.NAME, "true"),
        ("NULL::VARCHAR", Axis.NAME, "(none)"),
    ],
)
def test_a_place_is_a_time_a_number_or_a_name(
    value: str, axis: Axis, place: object
) -> None:
    points = read(f"SELECT {value} AS x, 1 AS y", chart())

    assert points.x_axis == axis
    assert [point.x for point in points.points] == [place]


def test_several_columns_are_series() -> None:
    points = read("SELECT 1 AS x, 2 AS a, 3 AS b_c", chart(y=("a", "b_c")))

    assert [(point.series, point.y) for point in points.points] == [
        ("a", 2.0),
        ("b c", 3.0),
    ]


def test_rows_that_share_a_place_are_put_together() -> None:
    rows = "SELECT * FROM (VALUES (1, 1), (1, 3), (2, 5)) t(x, y)"

    means = read(rows, chart(aggregate="mean")).points
    counts = read(rows, chart(aggregate="count")).points

    assert [point.y for point in means] == [2.0, 5.0]
    assert [point.y for point in counts] == [2.0, 1.0]


def test_rows_that_share_a_place_by_mistake_are_refused() -> None:
    with pytest.raises(QueryError, match="2 rows share one place; add aggregate: sum"):
        read("SELECT 1 AS x, 2 AS y FROM range(2)", chart())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"y": "yy"}, "chart 'A chart' names yy, which is no column; did you mean y?"),
        ({"series": "abc"}, "names abc, which is no column; there is x, y"),
        ({"y": "x"}, "measures x, which is VARCHAR; name a column of numbers"),
    ],
)
def test_a_chart_names_columns_that_are_there(words: dict[str, str], said: str) -> None:
    with pytest.raises(QueryError) as refused:
        read("SELECT 'a' AS x, 1 AS y", chart(**words))

    assert said in str(refused.value)


def test_bars_of_names_are_the_longest() -> None:
    rows = "SELECT 'n' || range AS x, range AS y FROM range(100)"

    down = read(rows, chart("bar", limit=3))
    up = read(rows, chart("bar", limit=2, order="ascending"))

    assert [point.x for point in down.points] == ["n99", "n98", "n97"]
    assert [point.x for point in up.points] == ["n0", "n1"]
    assert down.notes == ("3 of 100 xs",)


def test_of_many_times_the_newest_are_shown() -> None:
    rows = "SELECT TIMESTAMP '2020-01-01' + range * INTERVAL 1 HOUR AS x, range AS y FROM range(100000)"

    points = read(rows, chart())

    assert len(points.points) == 2000
    assert [point.y for point in points.points[-2:]] == [99_998, 99_999]
    assert points.notes == ("2,000 of 100,000 xs",)


def test_of_many_series_the_greatest_are_shown() -> None:
    rows = "SELECT 1 AS x, range AS y, 's' || range AS kind FROM range(50)"

    points = read(rows, chart(series="kind"))

    assert {point.series for point in points.points} == {f"s{n}" for n in range(42, 50)}
    assert points.notes == ("8 of 50 kinds",)


def test_a_scatter_of_many_rows_is_the_same_sample_every_time() -> None:
    rows = "SELECT range AS x, range % 7 AS y FROM range(100000)"

    first, second = (read(rows, chart("scatter")) for _ in range(2))

    assert len(first.points) == 5000
    assert first.points == second.points
    assert first.notes == ("5,000 of 100,000 rows",)


def test_a_row_without_a_place_is_left_out_and_counted() -> None:
    rows = "SELECT * FROM (VALUES (1, 1, 5), (NULL, 2, 6), (2, 'NaN'::DOUBLE, 7)) t(x, y, v)"

    points = read(rows, chart("map", value="v"))

    assert [(point.x, point.y, point.value) for point in points.points] == [(1, 1, 5)]
    assert points.notes == ("2 rows without a place left out",)


def test_layers_stand_in_the_order_of_the_flow() -> None:
    rows = "SELECT 1 AS x, 1 AS y, unnest(['gold', 'silver', 'bronze', 'a']) AS layer"

    points = read(rows, chart(panels="layer"))

    panels = [point.panel for point in points.points]
    assert panels == ["bronze", "silver", "gold", "a"]


def test_no_rows_are_no_points() -> None:
    for kind, words in [("line", {}), ("map", {}), ("heatmap", {"value": "y"})]:
        points = read("SELECT 1 AS x, 2 AS y WHERE false", chart(kind, **words))

        assert list(points.points) == []
        assert points.problem == ""


def test_a_chart_that_does_not_fit_says_so_in_its_place() -> None:
    charts = [chart(title="good"), chart(title="bad", y="nothing")]

    good, bad = read_charts(
        duckdb.connect(), charts, relation="(SELECT 1 AS x, 2 AS y)"
    )

    assert good.problem == ""
    assert bad.problem.startswith("chart 'bad' names nothing")


def test_numbers_stand_under_the_names_of_their_columns() -> None:
    rows = "SELECT 1 AS hour, 'AA' AS carrier, 2.5 AS delay"

    points = read(rows, chart("heatmap", x="hour", y="carrier", value="delay"))

    assert numbers(points, limit=5) == [{"hour": 1, "carrier": "AA", "delay": 2.5}]


@pytest.mark.parametrize(
    ("words", "row"),
    [
        (
            {"label": "city", "from_label": "start"},
            {"start": "JFK", "city": "LAX", "flights": 3},
        ),
        ({"label": "city"}, {"a": 5, "b": 6, "city": "LAX", "flights": 3}),
        ({}, {"a": 5, "b": 6, "x": 1, "y": 2, "flights": 3}),
    ],
)
def test_the_numbers_of_a_map_show_both_ends(
    words: dict[str, str], row: dict[str, Any]
) -> None:
    rows = "SELECT 1 AS x, 2 AS y, 5 AS a, 6 AS b, 'JFK' AS start, 'LAX' AS city, 3 AS flights"

    points = read(rows, chart("map", from_x="a", from_y="b", value="flights", **words))

    assert numbers(points, limit=5) == [row]


def test_a_moment_is_told_with_its_zone() -> None:
    rows = "SELECT TIMESTAMPTZ '2026-01-01 01:00:00+01' AS x, 1 AS y"

    points = read(rows, chart())

    assert numbers(points, limit=5)[0]["x"] == datetime(2026, 1, 1, tzinfo=UTC)
