"""Entries: what Dagster is given stays small and readable whatever the data is."""

import dagster as dg

from rat_assets.entries import Entries, as_sql, as_table, cell, fit, size_of


def cells(value: dg.TableMetadataValue) -> list[dict[str, object]]:
    return [dict(record.data) for record in value.records]


def test_a_long_query_is_cut_and_says_how_much_is_missing() -> None:
    query = f"SELECT '{'é' * 20_000}'"

    shown = as_sql(query).md_str or ""

    assert len(shown.encode()) < 12_200
    assert "characters left out" in shown
    assert shown.endswith("\n```")


def test_backticks_in_code_do_not_end_it() -> None:
    shown = as_sql("SELECT '```' AS fence").md_str or ""

    assert shown.startswith("````sql\n")
    assert shown.endswith("\n````")


def test_a_table_shows_some_rows_and_columns_and_counts_the_others() -> None:
    rows = [{f"c{number}": number for number in range(20)} for _ in range(30)]

    shown = cells(as_table(rows, limit=5))

    assert len(shown) == 6
    assert list(shown[0]) == [*(f"c{number}" for number in range(14)), "…"]
    assert shown[0]["…"] == "6 more columns"
    assert shown[-1]["c0"] == "… and 25 more"


def test_a_cell_is_what_a_browser_can_show() -> None:
    assert cell(None) == ""
    assert cell(2**60) == str(2**60)
    assert cell({"a": [1]}) == '{"a": [1]}'
    assert cell("x" * 500) == "x" * 79 + "…"
    assert (cell(1.5), cell(v := True)) == (1.5, v)


def test_what_has_no_room_is_named_and_the_rest_is_shown() -> None:
    groups: list[Entries] = [
        {"small": dg.MetadataValue.int(1)},
        {"huge": "x" * 5_000},
        {"last": 2},
    ]

    shown = fit(groups, limit=1_000)

    assert list(shown) == ["small", "last", "left_out"]
    assert shown["left_out"].text == "huge: too large to show"
    assert size_of(shown) < 1_000
