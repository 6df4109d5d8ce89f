"""Pictures where people meet them: in a run, in the platform's reports, in files."""

import io
import json
from base64 import b64decode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from rat_assets import runner
from rat_assets.cli import rat
from rat_assets.definitions import build_definitions
from rat_assets.reports import drawing
from rat_assets.reports.answers import read_report
from rat_assets.reports.pictures import PICTURE_BYTES
from rat_assets.reports.platform import REPORTS, ROWS_PER_TABLE
from rat_assets.reports.points import numbers
from tests.factories import Shop

# A command pins its settings in the environment for good.

FOLDER = "shop/pipelines/bronze/numbers"
NUMBERS = {
    f"{FOLDER}/pipeline.sql": "SELECT range AS n, range * range AS square FROM range(9)",
    f"{FOLDER}/config.yaml": """\
description: Squares
charts:
  - title: Squares [of n]
    kind: line
    x: n
    y: square
  - title: Bars
    kind: bar
    x: n
    y: square
""",
}
CHART = "chart: Squares [of n] (click to open)"


def metadata(record: dg.EventLogRecord) -> dict[str, Any]:
    """What a materialization shows."""
    assert record.asset_materialization is not None
    return {
        name: [row.data for row in value.records]
        if isinstance(value, dg.TableMetadataValue)
        else value.value
        for name, value in record.asset_materialization.metadata.items()
    }


def picture(markdown: str) -> bytes:
    """The picture inside Markdown."""
    return b64decode(markdown.partition("base64,")[2].removesuffix(")"))


def width(png: bytes) -> int:
    image = Image.open(io.BytesIO(png))
    image.load()
    return image.width


def call(*arguments: str) -> Result:
    """What a call of the command comes to."""
    return CliRunner().invoke(rat, list(arguments))


def test_a_materialization_holds_its_pictures_and_their_numbers(shop: Shop) -> None:
    shop.publish(NUMBERS)

    shop.run()

    shown = metadata(shop.materializations("shop.bronze.numbers")[0])
    png = picture(shown[CHART])
    assert shown[CHART].startswith("![Squares (of n)](data:image/png;base64,")
    assert len(png) <= PICTURE_BYTES
    assert width(png) == 972
    assert shown["numbers: Squares [of n]"][:2] == [
        {"n": 0, "square": 0},
        {"n": 1, "square": 1},
    ]


def test_a_view_has_pictures_too(shop: Shop) -> None:
    config = NUMBERS[f"{FOLDER}/config.yaml"] + "materialized: view\n"
    shop.publish(NUMBERS | {f"{FOLDER}/config.yaml": config})

    shop.run()

    assert CHART in metadata(shop.materializations("shop.bronze.numbers")[0])


def test_a_chart_of_a_column_that_is_not_there_publishes_nothing(shop: Shop) -> None:
    shop.publish(NUMBERS | {f"{FOLDER}/pipeline.sql": "SELECT 1 AS n, 2 AS squares"})

    report = shop.run()

    assert report.tables[0].status == "failed"
    assert (report.tables[0].error or "").endswith(
        "shop/pipelines/bronze/numbers/config.yaml:6: chart 'Squares [of n]' names square, "
        "which is no column; did you mean squares?"
    )
    assert shop.materializations("shop.bronze.numbers") == []
    assert shop.branches == []


def test_a_picture_that_cannot_be_drawn_fails_no_run(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        message = "no ink"
        raise RuntimeError(message)

    monkeypatch.setitem(drawing.DRAWERS, "line", fail)
    shop.publish(NUMBERS)

    report = shop.run()

    shown = metadata(shop.materializations("shop.bronze.numbers")[0])
    assert report.tables[0].status == "published"
    assert shown["chart: Squares [of n]"] == "could not be drawn: RuntimeError: no ink"
    assert "chart: Bars (click to open)" in shown


def test_rows_that_do_not_fit_a_chart_are_a_warning(shop: Shop) -> None:
    shop.publish(
        NUMBERS | {f"{FOLDER}/pipeline.sql": "SELECT 1 AS n, 2 AS square FROM range(2)"}
    )

    report = shop.run()

    shown = metadata(shop.materializations("shop.bronze.numbers")[0])
    assert report.tables[0].status == "published"
    assert "2 rows share one place" in shown["chart: Squares [of n]"]
    assert "2 rows share one place" in json.dumps(shop.runs()[0].logs)


# The platform's own.


def test_the_rows_of_every_table_are_told_over_time(shop: Shop) -> None:
    shop.publish(NUMBERS)
    shop.run()
    shop.run()

    (points,) = read_report(shop.whole, ROWS_PER_TABLE)

    assert points.chart.title == "Rows per table over time: shop"
    assert [(p.panel, p.series, p.y) for p in points.points] == [
        ("bronze", "numbers", 9.0)
    ] * 2
    # The line goes on to now, which is no event.
    assert points.span is not None
    assert all(
        isinstance(p.x, datetime) and p.x < points.span[1] for p in points.points
    )
    assert all(row["finished_at"].tzinfo == UTC for row in numbers(points, limit=5))


def test_a_run_draws_the_reports(shop: Shop) -> None:
    shop.publish(NUMBERS)
    shop.run()

    drawn = runner.draw_reports(shop.instance)

    assert drawn
    shown = metadata(shop.materializations("platform.report.rows_per_table")[0])
    chart = "Rows per table over time: shop (click to open)"
    assert width(picture(shown[chart])) == 972


def test_an_empty_platform_says_that_there_is_nothing_to_see(shop: Shop) -> None:
    drawn = runner.draw_reports(shop.instance)

    assert drawn
    shown = {
        name: metadata(shop.materializations(f"platform.report.{name}")[0])
        for name in REPORTS
    }
    assert shown["platform_health"] == {
        "Runs per day": "nothing ran in the last 30 days",
        "Slowest pipelines": "no run wrote anything in the last 30 days",
        "Flakiest pipelines": "no run failed in the last 30 days",
        "Time to recover": "no pipeline recovered from a failure in the last 30 days",
    }
    assert all(isinstance(text, str) for text in shown["quality"].values())


def test_a_report_has_its_numbers_under_its_pictures(open_shop: Shop) -> None:
    open_shop.land("bad.csv", "id,customer,amount\n3,eve,-5\n")
    assert not open_shop.run("shop.bronze.orders").succeeded

    runner.draw_reports(open_shop.instance)

    health = metadata(open_shop.materializations("platform.report.platform_health")[0])
    (flaky,) = health["Flakiest pipelines: numbers"]
    assert flaky["pipeline"] == "shop.bronze.orders"
    assert (flaky["runs"], flaky["failures"], flaky["alternations"]) == (2, 1, 1)
    newest = health["Runs per day: numbers"][0]
    assert (newest["runs"], newest["published"], newest["failed"]) == (4, 3, 1)
    quality = metadata(open_shop.materializations("platform.report.quality")[0])
    (failing,) = quality["Failing tests: numbers"]
    assert failing["test"] == "amount_is_positive"
    pictures = [value for shown in (health, quality) for value in shown.values()]
    drawn = [value for value in pictures if str(value).startswith("![")]
    assert len(drawn) == 7
    assert all(width(picture(markdown)) > 0 for markdown in drawn)


def test_without_a_file_the_numbers_of_a_report_are_printed(open_shop: Shop) -> None:
    result = call("report", "platform_health")

    assert result.exit_code == 0
    assert "Slowest pipelines\npipeline " in result.stdout
    assert "shop.gold.revenue" in result.stdout
    assert "no run failed in the last 30 days" in result.stdout


def test_the_reports_are_drawn_by_a_clock(shop: Shop) -> None:
    shop.publish(NUMBERS)

    definitions = build_definitions(shop.whole, release=1)

    schedule = definitions.resolve_schedule_def("reports")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    asset = definitions.resolve_assets_def(ROWS_PER_TABLE.key)
    assert asset.group_names_by_key[ROWS_PER_TABLE.key] == "platform/reports"


# Files.


def test_reports_are_listed(shop: Shop) -> None:
    shop.publish(NUMBERS)

    result = call("report")

    assert result.exit_code == 0
    for word in ("shop.bronze.numbers", "Squares [of n]", "Bars", "rows_per_table"):
        assert word in result.stdout


def test_every_picture_of_a_table_is_a_file(shop: Shop, tmp_path: Path) -> None:
    shop.publish(NUMBERS)
    shop.run()
    first, second = tmp_path / "squares.png", tmp_path / "squares-2.png"

    result = call("report", "shop.bronze.numbers", "--out", str(first))

    assert result.stdout.splitlines() == [f"{first}: Squares [of n]", f"{second}: Bars"]
    assert [width(path.read_bytes()) for path in (first, second)] == [1800, 1800]


def test_a_report_of_the_platform_is_a_file(shop: Shop, tmp_path: Path) -> None:
    shop.publish(NUMBERS)
    shop.run()
    file = tmp_path / "rows.png"

    result = call("report", "rows_per_table", "--out", str(file))

    assert result.exit_code == 0
    assert width(file.read_bytes()) == 1800


def test_without_a_file_the_numbers_are_printed(shop: Shop) -> None:
    shop.publish(NUMBERS)
    shop.run()

    result = call("report", "shop.bronze.numbers")

    assert "Squares [of n]" in result.stdout
    assert "     64" in result.stdout
    assert "\n\nBars\n" in result.stdout
    assert not result.stdout.endswith("\n\n")
    assert "--out FILE.png" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["shop.bronze.number"], "did you mean shop.bronze.numbers?"),
        (["bronze.numbers"], "did you mean shop.bronze.numbers?"),
        (["row_per_table"], "did you mean rows_per_table?"),
        (["xyzzy"], "see `rat report`"),
        (["shop.bronze.plain"], "add charts to its config.yaml"),
        (["shop.bronze.numbers"], "run it first"),
        (["rows_per_table", "--ref", "x"], "leave out --ref"),
        (["shop.bronze.numbers", "--ref", "mian"], "did you mean main?"),
    ],
)
def test_a_report_that_cannot_be_drawn_says_why(
    shop: Shop, arguments: list[str], said: str
) -> None:
    shop.publish(
        NUMBERS | {"shop/pipelines/bronze/plain/pipeline.sql": "SELECT 1 AS a"}
    )

    result = call("report", *arguments)

    assert result.exit_code == 1
    assert said in result.stderr


def test_a_picture_is_called_what_it_is(shop: Shop, tmp_path: Path) -> None:
    shop.publish(NUMBERS)
    shop.run()
    file = tmp_path / "squares.svg"

    result = call("report", "shop.bronze.numbers", "--out", str(file))

    assert result.exit_code == 1
    assert f"{file} does not end in .png" in result.stderr
    assert f"--out {tmp_path}/squares.png" in result.stderr
    assert not file.exists()


def test_a_file_that_cannot_be_written_leaves_nothing(
    shop: Shop, tmp_path: Path
) -> None:
    shop.publish(NUMBERS)
    shop.run()

    result = call(
        "report", "shop.bronze.numbers", "--out", str(tmp_path / "no" / "x.png")
    )

    assert result.exit_code == 1
    assert "cannot be written: No such file or directory" in result.stderr
    assert not (tmp_path / "no").exists()
