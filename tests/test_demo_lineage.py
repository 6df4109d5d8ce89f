"""The column lineage of every column of the demo, by hand against its SQL.

A column of a bronze table comes from the landing zone's column of its name, but for those that say
which file and when. `?` is a column of a Python pipeline, which is left out.
"""

from rat_assets import actions
from rat_assets.demo import (
    LandingFile,
    example_folder,
    land,
    month_files,
    reference_files,
)
from rat_resources import audit, lineage
from rat_resources.mirror import log
from tests.factories import Shop, folder_of

BRONZE = {
    "airlines": "carrier name",
    "airports": "faa name lat lon alt tz dst tzone",
    "flights": "year month day dep_time sched_dep_time dep_delay arr_time sched_arr_time arr_delay "
    "carrier flight tailnum origin dest air_time distance hour minute time_hour",
    "planes": "tailnum year type manufacturer model engines seats speed engine",
    "weather": "origin year month day hour temp dewp humid wind_dir wind_speed wind_gust precip "
    "pressure visib time_hour",
}
FLIGHT_DATE = "bronze.flights.day bronze.flights.month bronze.flights.year"
DEPARTURE = "bronze.flights.day bronze.flights.month bronze.flights.sched_dep_time bronze.flights.year"
# Whether it lands on the next day is told by its departure.
ARRIVAL = (
    "bronze.flights.day bronze.flights.month bronze.flights.sched_arr_time "
    "bronze.flights.sched_dep_time bronze.flights.year silver.airports.time_zone"
)
OTHERS = {
    "silver.airlines": {
        "carrier": "bronze.airlines.carrier",
        "airline": "bronze.airlines.name",
    },
    "silver.airports": {
        "airport": "bronze.airports.faa",
        "airport_name": "bronze.airports.name",
        "latitude": "bronze.airports.lat",
        "longitude": "bronze.airports.lon",
        "altitude_feet": "bronze.airports.alt",
        "time_zone": "bronze.airports.tzone",
        "standard_utc_offset_hours": "bronze.airports.tz",
    },
    "silver.aircraft": {
        "tail_number": "bronze.planes.tailnum",
        "built_year": "bronze.planes.year",
        "aircraft_type": "bronze.planes.type",
        "manufacturer": "bronze.planes.manufacturer",
        "model": "bronze.planes.model",
        "engines": "bronze.planes.engines",
        "seats": "bronze.planes.seats",
        "cruise_mph": "bronze.planes.speed",
        "engine_type": "bronze.planes.engine",
        "valid_from": "",
        "valid_to": "",
    },
    "silver.weather": {
        "airport": "bronze.weather.origin",
        "observed_at": "bronze.weather.time_hour",
        "temperature_f": "bronze.weather.temp",
        "dew_point_f": "bronze.weather.dewp",
        "humidity_percent": "bronze.weather.humid",
        "wind_degrees": "bronze.weather.wind_dir",
        "wind_mph": "bronze.weather.wind_speed",
        "gust_mph": "bronze.weather.wind_gust",
        "precipitation_inches": "bronze.weather.precip",
        "pressure_millibars": "bronze.weather.pressure",
        "visibility_miles": "bronze.weather.visib",
        "source_file": "bronze.weather.source_file",
        "loaded_at": "bronze.weather.loaded_at",
    },
    "silver.flights": {
        "flight_date": FLIGHT_DATE,
        "carrier": "bronze.flights.carrier",
        "flight_number": "bronze.flights.flight",
        "origin": "bronze.flights.origin",
        "destination": "bronze.flights.dest",
        "tail_number": "bronze.flights.tailnum",
        "status": "bronze.flights.arr_delay bronze.flights.dep_time",
        "scheduled_departure_at": DEPARTURE,
        "departed_at": f"bronze.flights.dep_delay {DEPARTURE}",
        "departure_delay_minutes": "bronze.flights.dep_delay",
        "scheduled_arrival_at": ARRIVAL,
        "arrived_at": f"bronze.flights.arr_delay {ARRIVAL}",
        "arrival_delay_minutes": "bronze.flights.arr_delay",
        "air_minutes": "bronze.flights.air_time",
        "distance_miles": "bronze.flights.distance",
        "source_file": "bronze.flights.source_file",
        "loaded_at": "bronze.flights.loaded_at",
    },
    "gold.daily_carrier_delays": {
        "month": "silver.flights.flight_date",
        "flight_date": "silver.flights.flight_date",
        "carrier": "silver.flights.carrier",
        "flights": "",
        "completed": "silver.flights.status",
        "cancelled": "silver.flights.status",
        "diverted": "silver.flights.status",
        "late": "silver.flights.arrival_delay_minutes",
        "mean_departure_delay_minutes": "silver.flights.departure_delay_minutes",
        "mean_arrival_delay_minutes": "silver.flights.arrival_delay_minutes",
        "worst_arrival_delay_minutes": "silver.flights.arrival_delay_minutes",
        "loaded_at": "silver.flights.loaded_at",
    },
    "gold.route_performance": {
        "origin": "silver.flights.origin",
        "destination": "silver.flights.destination",
        "origin_latitude": "silver.airports.latitude",
        "origin_longitude": "silver.airports.longitude",
        "destination_name": "silver.airports.airport_name silver.flights.destination",
        "destination_latitude": "silver.airports.latitude",
        "destination_longitude": "silver.airports.longitude",
        "distance_miles": "silver.flights.distance_miles",
        "carriers": "silver.flights.carrier",
        "flights": "",
        "cancelled_percent": "silver.flights.status",
        "on_time_percent": "silver.flights.arrival_delay_minutes silver.flights.status",
        "mean_departure_delay_minutes": "silver.flights.departure_delay_minutes",
        "mean_arrival_delay_minutes": "silver.flights.arrival_delay_minutes",
        "median_arrival_delay_minutes": "silver.flights.arrival_delay_minutes",
        "mean_mph": "silver.flights.air_minutes silver.flights.distance_miles",
        "mean_seats": "silver.aircraft.seats",
        "known_aircraft_percent": "silver.aircraft.tail_number",
    },
    "gold.delays_by_carrier_and_hour": {
        "carrier": "silver.flights.carrier",
        "airline": "silver.airlines.airline silver.flights.carrier",
        "scheduled_hour": "silver.flights.scheduled_departure_at",
        "flights": "",
        "late": "silver.flights.departure_delay_minutes",
        "mean_departure_delay_minutes": "silver.flights.departure_delay_minutes",
    },
    "gold.weather_delays": {
        "origin": "silver.flights.origin",
        "precipitation": "silver.weather.airport silver.weather.precipitation_inches",
        "visibility": "silver.weather.airport silver.weather.visibility_miles",
        "wind": "silver.weather.wind_mph",
        "flights": "",
        "cancelled_percent": "silver.flights.status",
        "late_percent": "silver.flights.departure_delay_minutes",
        "mean_departure_delay_minutes": "silver.flights.departure_delay_minutes",
        "median_departure_delay_minutes": "silver.flights.departure_delay_minutes",
    },
    "gold.carrier_scorecard": dict.fromkeys(
        [
            "rank",
            "carrier",
            "airline",
            "grade",
            "score",
            "flights",
            "late_percent",
            "cancelled_percent",
            "mean_arrival_delay_minutes",
            "aircraft",
            "registered_aircraft",
            "mean_built_year",
        ],
        "?",
    ),
}


def expected() -> dict[str, dict[str, list[str] | None]]:
    """The sources of every column by its table, all names whole."""
    found = {
        f"bronze.{zone}": {
            **{name: f"landing.{zone}.{name}" for name in columns.split()},
            "source_file": f"landing.{zone}.filename",
            "loaded_at": "",
        }
        for zone, columns in BRONZE.items()
    }
    return {
        f"nyc.{table}": {
            name: None
            if sources == "?"
            else sorted(f"nyc.{each}" for each in sources.split())
            for name, sources in columns.items()
        }
        for table, columns in (found | OTHERS).items()
    }


def kept(shop: Shop) -> dict[str, dict[str, list[str] | None]]:
    """The same as Postgres has it."""
    found: dict[str, dict[str, list[str] | None]] = {}
    with shop.whole.metadata.transaction() as tx:
        for dataset in lineage.datasets(tx):
            traced = lineage.load(tx, dataset)
            if traced is not None:
                found[dataset] = {
                    name: [str(each) for each in traced.sources[name]]
                    if name in traced.sources
                    else None
                    for name in traced.columns
                }
    return found


def first_lines(month: int) -> list[LandingFile]:
    """The beginning of a month."""
    return [
        LandingFile(
            each.zone, each.name, b"".join(each.content.splitlines(keepends=True)[:40])
        )
        for each in month_files(month)
    ]


def test_every_column_of_the_demo_is_traced_to_where_it_comes_from(shop: Shop) -> None:
    zones = folder_of(shop.whole.settings.store) / "nyc" / "landing"
    actions.publish(shop.whole, example_folder())
    land([*first_lines(1), *reference_files()], folder=zones)
    shop.run()
    assert kept(shop) == expected()

    # What is added to tables that exist compiles to another query of the same meaning.
    land(first_lines(2), folder=zones)
    report = shop.run()

    assert {each.status for each in report.tables} <= {"published", "unchanged"}
    assert kept(shop) == expected()
    log.catch_up(shop.whole.metadata)
    assert list(audit.audit(shop.whole).lines) == []
