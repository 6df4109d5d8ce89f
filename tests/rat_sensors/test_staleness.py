"""The staleness sensor: Dagster hears of a change once, and of nothing else."""

import dagster as dg
from sqlalchemy import text

from rat_resources.platform import Platform
from rat_sensors.staleness import AT_ONCE, build_staleness_sensor, changes, tell
from tests.factories import Shop
from tests.rat_assets.test_restoring import stale

SILVER = "shop.silver.orders"


def tick(shop: Shop, cursor: str | None) -> dg.SensorResult:
    """What the sensor says when it looks."""
    context = dg.build_sensor_context(
        instance=shop.instance,
        cursor=cursor,
        resources={"metadata": shop.whole.metadata},
    )
    data = build_staleness_sensor(()).evaluate_tick(context)
    return dg.SensorResult(cursor=data.cursor, asset_events=[*data.asset_events])


def age(whole: Platform) -> None:
    """Let all runs be two minutes older."""
    with whole.metadata.transaction() as tx:
        tx.execute(
            text("""
                UPDATE rat.runs SET
                    created_at = created_at - interval '2 minutes',
                    started_at = started_at - interval '2 minutes',
                    finished_at = finished_at - interval '2 minutes'
            """)
        )


def test_a_table_that_became_stale_says_so_once_and_once_that_it_is_current(
    open_shop: Shop,
) -> None:
    open_shop.land("more.csv", "id,customer,amount\n9,eve,3\n")
    open_shop.run("shop.bronze.orders")
    young = tick(open_shop, None)
    age(open_shop.whole)

    first = tick(open_shop, young.cursor)
    again = tick(open_shop, first.cursor)
    open_shop.run(SILVER, "shop.gold.revenue")
    last = tick(open_shop, again.cursor)

    assert not young.asset_events
    (observed,) = first.asset_events
    assert isinstance(observed, dg.AssetObservation)
    assert observed.asset_key.path == SILVER.split(".")
    assert observed.metadata["stale"].value is True
    assert "shop.bronze.orders has rows" in (observed.description or "")
    assert not again.asset_events
    assert [each.metadata["stale"].value for each in last.asset_events] == [False]
    assert last.cursor == "{}"


def test_what_has_no_room_in_a_tick_is_told_in_the_next() -> None:
    due = stale(**{f"t{number}": "data" for number in range(AT_ONCE + 5)})

    first = list(changes({}, due))[:AT_ONCE]
    told = tell({}, due, first)

    assert len(list(changes(told, due))) == 5
    assert set(changes(told, {})) == set(first)
