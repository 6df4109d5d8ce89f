"""The janitor sensor: what a tick removes."""

import dagster as dg

from rat_sensors.janitor import janitor
from tests.factories import Shop
from tests.rat_resources.janitor.ages import make_old_tick


def test_a_tick_says_what_it_removed(shop: Shop) -> None:
    make_old_tick(shop.whole.metadata)
    context = dg.build_sensor_context(shop.instance, resources={"platform": shop.whole})

    ticks = [janitor.evaluate_tick(context) for _ in range(2)]

    assert [tick.skip_message for tick in ticks] == [
        "ticks: 1 removed",
        "nothing was over its time",
    ]
