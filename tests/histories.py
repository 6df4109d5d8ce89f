"""Histories: a little of everything that can happen to a run, on a real RAT."""

from rat_resources.mirror import log
from tests.factories import ORDERS, Shop
from tests.hooks import cancel, when

FIRST = "id,customer,amount\n1,ann,10\n2,bob,20\n"
SECOND = "id,customer,amount\n3,cyd,30\n"
BROKEN = "id,customer,amount\n4,dan,-1\n"
FLAKY = "shop/pipelines/bronze/flaky"


def play(shop: Shop) -> None:
    """Success, nothing new, a failed test, a failed query, retries, a cancelled run, a retirement."""
    shop.publish(
        ORDERS
        | {
            f"{FLAKY}/pipeline.py": failing_once(shop),
            f"{FLAKY}/config.yaml": "max_retries: 1\nretry_delay_seconds: 0\n",
        }
    )
    shop.land("first.csv", FIRST)
    shop.run()
    shop.run(only_changed=True)
    shop.land("broken.csv", BROKEN)
    shop.run()
    shop.land("second.csv", SECOND)
    with when("write", lambda: cancel(shop)):
        shop.run("shop.bronze.orders")
    shop.publish(
        {"shop/pipelines/gold/revenue/pipeline.sql": "SELECT 1 / 'none'::INT AS n"}
    )
    shop.run("shop.gold.revenue")
    log.catch_up(shop.whole.metadata)


def failing_once(shop: Shop) -> str:
    """A script that fails the first time that it runs."""
    marker = shop.folder.parent / "marker"
    return f"""
import pathlib
marker = pathlib.Path({str(marker)!r})
if not marker.exists():
    marker.touch()
    raise RuntimeError('not yet')
result = pa.table({{'n': [1]}})
"""
