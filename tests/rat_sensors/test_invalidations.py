import dagster as dg
from dagster._core.definitions.sensor_definition import SensorExecutionData
from sqlalchemy import text

from rat_sensors.invalidations import build_invalidations_sensor
from rat_sensors.wishes import build_wishes_sensor
from tests.factories import Shop


@dg.asset(key=["shop", "silver", "orders"])
def orders() -> None:
    """A table."""


JOB = dg.define_asset_job("pipelines", selection=dg.AssetSelection.assets(orders))
SENSOR, WISHES = build_invalidations_sensor(JOB), build_wishes_sensor(JOB)
DEFINITIONS = dg.Definitions(
    assets=[orders],
    jobs=[JOB],
    sensors=[SENSOR, WISHES],
    resources={
        name: dg.ResourceDefinition.none_resource() for name in ("metadata", "platform")
    },
)


def evaluate(shop: Shop, sensor: dg.SensorDefinition = SENSOR) -> SensorExecutionData:
    """What Dagster gets of one tick."""
    context = dg.build_sensor_context(
        instance=shop.instance,
        resources={"metadata": shop.whole.metadata, "platform": shop.whole},
        definitions=DEFINITIONS,
    )
    return sensor.evaluate_tick(context)


def tick(shop: Shop, sensor: dg.SensorDefinition = SENSOR) -> list[dg.RunRequest]:
    """The runs that one tick asks for."""
    return list(evaluate(shop, sensor).run_requests or ())


def insert(shop: Shop, row_filter: str = "{}") -> None:
    with shop.whole.metadata.transaction() as tx:
        tx.execute(
            text("""
            INSERT INTO trace_by_name.data_invalidations (dataset, scope, row_filter, reason)
            VALUES ('shop.bronze.orders', 'row_range', CAST(:rows AS jsonb), 'reorg')
            """),
            {"rows": row_filter},
        )


def test_a_row_becomes_one_run_of_its_reader_alone(open_shop: Shop) -> None:
    for _ in range(3):
        insert(open_shop)

    (request,) = tick(open_shop)
    again = [*tick(open_shop), *tick(open_shop, WISHES)]

    assert request.asset_selection == [dg.AssetKey(["shop", "silver", "orders"])]
    assert request.tags["rat/trigger"].startswith("invalidation:")
    assert again == []


def test_a_row_that_makes_no_sense_is_one_event_and_not_one_a_tick(
    open_shop: Shop,
) -> None:
    insert(open_shop, '{"nobody": 1}')

    ticks = [tick(open_shop) for _ in range(3)]

    assert ticks == [[], [], []]
    with open_shop.whole.metadata.transaction() as tx:
        told = tx.execute(text("SELECT payload ->> 'title' FROM trace.alert_events"))
        (title,) = told.scalars().all()
    assert "'nobody', which is not there" in title


def test_nothing_to_tell_is_one_query(open_shop: Shop) -> None:
    insert(open_shop)
    tick(open_shop)

    assert evaluate(open_shop).skip_message == "0 invalidations: 0 told"
