# Each measure is compared with the other carriers' (its distance from their mean, in
# standard deviations), weighed and added up: 0 is an average carrier, more is better.
from statistics import mean, pstdev

WEIGHTS = {
    "late_percent": -0.5,
    "cancelled_percent": -0.3,
    "mean_arrival_delay_minutes": -0.2,
}
GRADES = [(0.5, "A"), (0.0, "B"), (-0.5, "C")]

query = f"""
    WITH totals AS (
        SELECT
            carrier,
            CAST(sum(flights) AS BIGINT) AS flights,
            round(100.0 * sum(late) / nullif(sum(completed), 0), 2) AS late_percent,
            round(100.0 * sum(cancelled) / sum(flights), 2) AS cancelled_percent,
            round(
                sum(mean_arrival_delay_minutes * completed) / nullif(sum(completed), 0), 2
            ) AS mean_arrival_delay_minutes
        FROM {ref("gold.daily_carrier_delays")}
        GROUP BY carrier
    ),

    fleets AS (
        SELECT
            flights.carrier,
            count(flights.tail_number) AS aircraft,
            count(aircraft.tail_number) AS registered_aircraft,
            round(avg(aircraft.built_year), 1) AS mean_built_year
        FROM (
            SELECT DISTINCT
                carrier,
                tail_number
            FROM {ref("silver.flights")}
        ) AS flights
        LEFT JOIN {ref("silver.aircraft")} AS aircraft
            ON flights.tail_number = aircraft.tail_number AND aircraft.valid_to IS NULL
        GROUP BY flights.carrier
    )

    SELECT
        airlines.airline,
        totals.*,
        fleets.* EXCLUDE (carrier)
    FROM totals
    LEFT JOIN fleets ON totals.carrier = fleets.carrier
    LEFT JOIN {ref("silver.airlines")} AS airlines ON totals.carrier = airlines.carrier
"""
carriers = duckdb_conn.sql(query).to_arrow_table().to_pylist()


def standings(measure):
    """How far each carrier is from the mean of all, by code."""
    values = {row["carrier"]: row[measure] for row in carriers}
    known = {carrier: value for carrier, value in values.items() if value is not None}
    if not known:
        return {}
    middle, spread = mean(known.values()), pstdev(known.values()) or 1.0
    return {carrier: (value - middle) / spread for carrier, value in known.items()}


def grade(score):
    """The letter that *score* has earned."""
    return next((letter for least, letter in GRADES if score >= least), "D")


scores = dict.fromkeys((row["carrier"] for row in carriers), 0.0)
for measure, weight in WEIGHTS.items():
    for carrier, distance in standings(measure).items():
        scores[carrier] += weight * distance

carriers.sort(key=lambda row: (-scores[row["carrier"]], row["carrier"]))
for rank, row in enumerate(carriers, start=1):
    score = round(scores[row["carrier"]], 3)
    row |= {"rank": rank, "score": score, "grade": grade(score)}
    log.info(f"{rank:2} {row['carrier']} {row['grade']} {score:+.2f} {row['airline']}")

result = pa.Table.from_pylist(
    carriers,
    schema=pa.schema(
        [
            ("rank", pa.int32()),
            ("carrier", pa.string()),
            ("airline", pa.string()),
            ("grade", pa.string()),
            ("score", pa.float64()),
            ("flights", pa.int64()),
            ("late_percent", pa.float64()),
            ("cancelled_percent", pa.float64()),
            ("mean_arrival_delay_minutes", pa.float64()),
            ("aircraft", pa.int64()),
            ("registered_aircraft", pa.int64()),
            ("mean_built_year", pa.float64()),
        ]
    ),
)
