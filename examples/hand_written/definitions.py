"""A project's own code location: the published pipelines, and beside them what is written by hand.

workspace.yaml names this file, and it stands in the project's folder.
"""

from datetime import date
from statistics import linear_regression

import dagster as dg
import pyarrow as pa

from rat_assets.definitions import definitions
from rat_assets.hand_written import PinnedLake, lake_asset

DAYS = 7


@lake_asset(
    "shop.gold.forecast",
    reads=["silver.orders"],
    tests={
        "revenue_is_positive": """
            -- @description: Nobody buys for less than nothing
            -- @remediation: The trend falls too steeply to be drawn out; look at the newest orders
            SELECT * FROM {{ this }} WHERE revenue < 0
        """,
        "week_is_whole": """
            -- @severity: warn
            SELECT count(*) AS days FROM {{ this }} HAVING count(*) % 7 <> 0
        """,
    },
    owner="team:shop",
    merge_strategy="incremental",
    unique_key="day",
)
def forecast(lake: PinnedLake) -> pa.Table:
    """The revenue of the next seven days, by the trend of the days so far."""
    orders = lake.read("silver.orders")
    revenue = orders.aggregate(
        "ordered_at::DATE AS day, sum(amount)::DOUBLE AS revenue"
    )
    history: list[tuple[date, float]] = revenue.order("day").fetchall()
    days = [day.toordinal() for day, _ in history]
    trend = linear_regression(days, [amount for _, amount in history])
    lake.log(f"{trend.slope:+.2f} a day over {len(history)} days")
    following = range(days[-1] + 1, days[-1] + 1 + DAYS)
    return pa.table(
        {
            "day": [date.fromordinal(day) for day in following],
            "revenue": [trend.intercept + trend.slope * day for day in following],
        }
    )


@dg.definitions
def defs() -> dg.Definitions:
    """Everything that Dagster loads; assets, jobs and sensors of Dagster's own go to the second."""
    return dg.Definitions.merge(definitions(assets=[forecast]), dg.Definitions())
