"""The demo's medallion, its SQL run over the whole year in DuckDB alone.

The lake, the templates and the runs have tests of their own; here a stand-in of a few
lines takes their place, so that what fails is the demo's SQL. Eleven months land, then
December, then a broken file on the side.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from logging import getLogger
from pathlib import Path
from typing import Any

import duckdb
import jinja2
import pyarrow as pa
import pytest
import yaml

from rat_assets.demo import (
    BATCHES,
    broken_file,
    example_folder,
    land,
    month_files,
    reference_files,
)

PIPELINES = example_folder() / "nyc" / "pipelines"
FOLDERS = {
    f"nyc.{path.parent.parent.name}.{path.parent.name}": path.parent
    for path in PIPELINES.glob("*/*/pipeline.*")
}
TESTS = sorted(PIPELINES.glob("*/*/tests/quality/*.sql"))
ORDER = [
    *sorted(name for name in FOLDERS if ".bronze." in name),
    "nyc.silver.airlines",
    "nyc.silver.airports",
    "nyc.silver.aircraft",
    "nyc.silver.weather",
    "nyc.silver.flights",
    "nyc.gold.daily_carrier_delays",
    "nyc.gold.delays_by_carrier_and_hour",
    "nyc.gold.route_performance",
    "nyc.gold.weather_delays",
    "nyc.gold.carrier_scorecard",
]
# What is honestly odd about this data, by the number of offenders.
WARNINGS = {
    "bronze.weather.wind_is_possible": 1,
    "silver.aircraft.build_year_is_known": 70,
    "silver.flights.arrival_clock_agrees": 1,
    "silver.flights.destination_is_known": 4,
    "gold.route_performance.aircraft_is_registered": 721,
    "gold.weather_delays.weather_is_known": 33,
}
FIRST_RUN = datetime(2026, 1, 1, tzinfo=UTC)


def annotations(sql: str) -> dict[str, str]:
    return dict(re.findall(r"^(?:--|#) @(\w+): (.+)$", sql, flags=re.MULTILINE))


def configuration(name: str) -> dict[str, Any]:
    file = FOLDERS[name] / "config.yaml"
    written = yaml.safe_load(file.read_text()) if file.exists() else {}
    return written | annotations(next(FOLDERS[name].glob("pipeline.*")).read_text())


def full_name(test: Path) -> str:
    folder = test.parent.parent.parent
    return f"{folder.parent.name}.{folder.name}.{test.stem}"


def columns(key: str | list[str]) -> list[str]:
    return re.split(r",\s*", key) if isinstance(key, str) else key


def view(name: str) -> str:
    return f'"{name}"' if name.count(".") == 2 else f'"nyc.{name}"'


@dataclass
class Medallion:
    """The demo's tables in one DuckDB, with just enough of each strategy."""

    landing: Path
    started_at: datetime = FIRST_RUN
    connection: duckdb.DuckDBPyConnection = field(default_factory=duckdb.connect)
    existing: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.connection.execute("SET TimeZone = 'UTC'")

    def run_all(self) -> None:
        for name in ORDER:
            zone = name.removeprefix("nyc.bronze.")
            if ".bronze." not in name or (self.landing / zone).exists():
                self.run(name)

    def run(self, name: str) -> None:
        if (FOLDERS[name] / "pipeline.py").exists():
            batch = self.script(name)
            self.connection.register("batch_arrow", batch)
            self.connection.execute("CREATE OR REPLACE TABLE batch AS FROM batch_arrow")
        else:
            query = self.render(FOLDERS[name] / "pipeline.sql", own=name)
            self.connection.execute(f"CREATE OR REPLACE TABLE batch AS {query}")
        self.write(name)

    def render(self, path: Path, *, own: str) -> str:
        config = configuration(own)
        strategy = config.get("merge_strategy", "full_refresh")
        watermark = None
        if own in self.existing and "watermark_column" in config:
            (watermark,) = self.rows(
                f"SELECT max({config['watermark_column']})::VARCHAR FROM {view(own)}"
            )[0]

        def is_strategy(wanted: str) -> Callable[[], bool]:
            return lambda: strategy == wanted and own in self.existing

        environment = jinja2.Environment(undefined=jinja2.StrictUndefined)  # noqa: S701 - SQL
        return environment.from_string(path.read_text()).render(
            ref=view,
            this=view(own),
            landing_zone=self.landing_zone,
            run_started_at=self.started_at.isoformat(),
            watermark_value=watermark,
            is_incremental=is_strategy("incremental"),
            is_snapshot=is_strategy("snapshot"),
        )

    def landing_zone(self, zone: str, *, new: bool) -> str:
        assert new
        return str(self.landing / zone)

    def script(self, name: str) -> pa.Table:
        names: dict[str, Any] = {
            "duckdb_conn": self.connection,
            "pa": pa,
            "ref": view,
            "log": getLogger(name),
        }
        exec((FOLDERS[name] / "pipeline.py").read_text(), names)  # noqa: S102 - our own
        assert isinstance(names["result"], pa.Table)
        return names["result"]

    def write(self, name: str) -> None:
        config, table = configuration(name), view(name)
        strategy = config.get("merge_strategy", "full_refresh")
        if strategy == "full_refresh" or name not in self.existing:
            history = strategy == "scd2"
            extra = ", now() AS valid_from, NULL::TIMESTAMPTZ AS valid_to"
            self.connection.execute(
                f"CREATE OR REPLACE TABLE {table} AS"
                f" SELECT *{extra if history else ''} FROM batch"
            )
            self.existing.add(name)
            return
        if strategy in ("incremental", "snapshot"):
            key = config.get("unique_key") or config["partition_column"]
            same = " AND ".join(f"t.{c} = b.{c}" for c in columns(key))
            self.connection.execute(
                f"DELETE FROM {table} t WHERE EXISTS (FROM batch b WHERE {same})"
            )
        if strategy != "scd2":
            self.connection.execute(f"INSERT INTO {table} BY NAME FROM batch")

    def offenders(self, test: Path) -> list[tuple[Any, ...]]:
        own, _, _ = f"nyc.{full_name(test)}".rpartition(".")
        return self.rows(self.render(test, own=own))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.connection.sql(query).fetchall()


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Medallion:
    medallion = Medallion(landing=tmp_path_factory.mktemp("first"))
    land(reference_files(), folder=medallion.landing)
    for number, months in enumerate(BATCHES):
        for month in months:
            land(month_files(month), folder=medallion.landing)
        medallion.started_at = FIRST_RUN + timedelta(hours=number)
        medallion.run_all()
        medallion.landing = tmp_path_factory.mktemp("next")
    return medallion


def land_text(zone: Path, *, name: str, lines: list[str]) -> None:
    zone.mkdir(parents=True)
    (zone / name).write_text("\n".join(lines) + "\n")


def test_every_flight_of_the_year_reaches_silver_once(year: Medallion) -> None:
    counts = [
        year.rows(f"SELECT count(*) FROM {view(name)}")[0][0]
        for name in ("bronze.flights", "silver.flights", "silver.weather")
    ]

    assert counts == [336_776, 336_776, 26_115]


@pytest.mark.parametrize(
    ("status", "flights"),
    [("cancelled", 8_255), ("diverted", 1_175), ("completed", 327_346)],
)
def test_a_flight_is_completed_diverted_or_cancelled(
    year: Medallion, status: str, flights: int
) -> None:
    found = year.rows(
        f"SELECT count(*) FROM {view('silver.flights')} WHERE status = '{status}'"
    )

    assert found == [(flights,)]


def test_each_strategy_finds_its_key_once_in_a_batch(year: Medallion) -> None:
    keyed = {
        name: columns(configuration(name)["unique_key"])
        for name in ORDER
        if "unique_key" in configuration(name)
    }

    for name, key in keyed.items():
        repeated = year.rows(
            f"SELECT {', '.join(key)}, count(*) AS copies"
            f" FROM {view(name)} GROUP BY ALL HAVING copies > 1"
        )
        assert repeated == []

    assert set(keyed) == {
        "nyc.silver.aircraft",
        "nyc.silver.flights",
        "nyc.silver.weather",
    }


# Worked out by hand from the clocks in the file and the zones of both airports.
@pytest.mark.parametrize(
    ("carrier", "number", "day", "departed_at", "arrived_at"),
    [
        pytest.param(
            "UA", 1545, "01-01", "01-01 10:17", "01-01 14:30", id="winter to Houston"
        ),
        pytest.param(
            "UA", 1138, "07-01", "07-01 10:55", "07-01 15:55", id="summer to Phoenix"
        ),
        pytest.param(
            "HA", 51, "01-09", "01-10 11:41", "01-10 22:42", id="a day late to Honolulu"
        ),
        pytest.param(
            "B6", 1018, "01-28", "01-29 04:03", "01-29 05:00", id="lands at 2400"
        ),
        pytest.param(
            "B6", 523, "10-01", "10-02 00:40", "10-02 07:00", id="at 2400 in the west"
        ),
        pytest.param(
            "B6", 35, "03-09", "03-10 04:06", "03-10 07:03", id="night of 23 hours"
        ),
        pytest.param(
            "B6", 839, "10-30", "10-31 04:00", None, id="leaves at 2400, zone unknown"
        ),
        pytest.param("MQ", 4525, "01-01", "01-01 20:25", None, id="diverted"),
        pytest.param("EV", 4308, "01-01", None, None, id="cancelled"),
    ],
)
def test_clock_times_become_the_right_instants(  # noqa: PLR0917 - a table of cases
    year: Medallion,
    carrier: str,
    number: int,
    day: str,
    departed_at: str | None,
    arrived_at: str | None,
) -> None:
    instants = year.rows(f"""
        SELECT
            strftime(departed_at, '%m-%d %H:%M'),
            strftime(arrived_at, '%m-%d %H:%M')
        FROM {view("silver.flights")}
        WHERE
            carrier = '{carrier}'
            AND flight_number = {number}
            AND flight_date = '2013-{day}'
    """)

    assert instants == [(departed_at, arrived_at)]


@pytest.mark.parametrize("test", TESTS, ids=full_name)
def test_a_quality_test_finds_what_is_odd_about_the_data_and_no_more(
    year: Medallion, test: Path
) -> None:
    name = full_name(test)
    severity = annotations(test.read_text())["severity"]

    found = year.offenders(test)

    assert len(found) == WARNINGS.get(name, 0)
    assert severity == ("warn" if name in WARNINGS else "error")


def test_a_month_that_lands_leaves_the_other_months_of_gold_alone(
    year: Medallion,
) -> None:
    months = year.rows(f"""
        SELECT month, max(loaded_at)
        FROM {view("gold.daily_carrier_delays")}
        GROUP BY month
        ORDER BY month
    """)

    batches = [(date(2013, month, 1), FIRST_RUN) for month in BATCHES[0]]
    assert months == [*batches, (date(2013, 12, 1), FIRST_RUN + timedelta(hours=1))]


def test_nothing_new_gives_silver_and_the_snapshot_an_empty_batch(
    year: Medallion,
) -> None:
    batches = {
        name: year.render(FOLDERS[name] / "pipeline.sql", own=name)
        for name in (
            "nyc.silver.flights",
            "nyc.silver.weather",
            "nyc.gold.daily_carrier_delays",
        )
    }

    sizes = [year.rows(f"SELECT count(*) FROM ({sql})") for sql in batches.values()]

    assert sizes == [[(0,)]] * 3


def test_a_corrected_flight_replaces_the_one_delivered_before(tmp_path: Path) -> None:
    medallion = Medallion(landing=tmp_path / "first")
    gold = "nyc.gold.daily_carrier_delays"
    lines = month_files(1)[0].content.decode().splitlines()[:4]
    lists = [file for file in reference_files() if file.zone == "airports"]
    land(lists, folder=medallion.landing)
    land_text(medallion.landing / "flights", name="a.csv", lines=lines)
    for name in ("bronze.airports", "silver.airports"):
        medallion.run(f"nyc.{name}")
    flights = ("nyc.bronze.flights", "nyc.silver.flights", gold)
    for name in flights:
        medallion.run(name)

    medallion.landing = tmp_path / "second"
    medallion.started_at += timedelta(minutes=1)
    corrected = lines[1].replace(",517,515,2,830,819,11,", ",,515,,,819,,")
    land_text(medallion.landing / "flights", name="b.csv", lines=[lines[0], corrected])
    for name in flights:
        medallion.run(name)

    statuses = medallion.rows(
        f"SELECT flight_number, status FROM {view('silver.flights')} ORDER BY ALL"
    )
    assert statuses == [(1141, "completed"), (1545, "cancelled"), (1714, "completed")]
    totals = medallion.rows(f"SELECT sum(flights), sum(cancelled) FROM {view(gold)}")
    assert totals == [(3, 1)]


def test_the_broken_file_loads_and_each_test_of_bronze_flights_stops_one_flight(
    tmp_path: Path,
) -> None:
    medallion = Medallion(landing=tmp_path)
    land([broken_file()], folder=tmp_path)

    medallion.run("nyc.bronze.flights")

    found = {
        test.stem: len(medallion.offenders(test))
        for test in TESTS
        if full_name(test).startswith("bronze.flights.")
    }
    assert found == {
        "calendar_is_real": 1,
        "distance_is_positive": 1,
        "origin_is_new_york": 1,
    }


def test_of_several_registers_the_last_by_name_counts(tmp_path: Path) -> None:
    medallion = Medallion(landing=tmp_path)
    lists = {"2013": "AA,American\nEV,ExpressJet", "2014": "AA,American"}
    for name, carriers in lists.items():
        file = tmp_path / "airlines" / f"airlines_{name}.csv"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"carrier,name\n{carriers}\n")

    medallion.run("nyc.bronze.airlines")

    assert medallion.rows(f"SELECT carrier FROM {view('bronze.airlines')}") == [("AA",)]


def test_every_column_has_a_type_that_iceberg_knows(year: Medallion) -> None:
    types = {
        (name, column[0], column[1])
        for name in ORDER
        for column in year.rows(f"DESCRIBE {view(name)}")
    }

    known = r"BOOLEAN|INTEGER|BIGINT|DOUBLE|VARCHAR|DATE|TIMESTAMP WITH TIME ZONE"

    assert [row for row in types if not re.fullmatch(known, row[2])] == []


def test_a_destination_that_no_list_names_is_called_by_its_code(
    year: Medallion,
) -> None:
    unnamed = year.rows(
        "SELECT DISTINCT destination_name"
        f" FROM {view('gold.route_performance')}"
        " WHERE destination_latitude IS NULL ORDER BY ALL"
    )

    assert unnamed == [("BQN",), ("PSE",), ("SJU",), ("STT",)]


def test_the_scorecard_ranks_all_sixteen_carriers(year: Medallion) -> None:
    scores = year.rows(
        "SELECT rank, score, airline"
        f" FROM {view('gold.carrier_scorecard')} ORDER BY rank"
    )

    assert [rank for rank, _, _ in scores] == list(range(1, 17))
    assert [score for _, score, _ in scores] == sorted(
        (score for _, score, _ in scores), reverse=True
    )
    assert all(airline for _, _, airline in scores)


@pytest.mark.parametrize("name", ORDER)
def test_a_pipeline_says_what_it_is_and_whose(name: str) -> None:
    config = configuration(name)

    assert config["description"]
    assert config["owner"].startswith("team:")


@pytest.mark.parametrize("name", ORDER)
def test_bronze_runs_when_its_zone_gets_a_file_and_the_rest_follows(name: str) -> None:
    _, layer, table = name.split(".")

    triggers = configuration(name).get("triggers", [])

    zones = [(trigger["type"], trigger["zone_name"]) for trigger in triggers]
    assert zones == ([("landing_zone_upload", table)] if layer == "bronze" else [])


@pytest.mark.parametrize("test", TESTS, ids=full_name)
def test_a_quality_test_says_what_it_wants_and_what_to_do(test: Path) -> None:
    header = annotations(test.read_text())

    assert list(header) == ["description", "severity", "tags", "remediation"]


def test_the_order_names_every_pipeline() -> None:
    assert sorted(ORDER) == sorted(FOLDERS)
