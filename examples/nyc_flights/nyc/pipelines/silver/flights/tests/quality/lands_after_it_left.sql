-- @description: A flight is longer in the world than in the air, and no flight takes a day.
-- @severity: error
-- @tags: time
-- @remediation: Compare the clocks in nyc.bronze.flights with the destination's time zone in nyc.silver.airports.
SELECT
    flight_date,
    carrier,
    flight_number,
    origin,
    destination,
    departed_at,
    arrived_at,
    air_minutes
FROM {{ this }}
WHERE
    arrived_at < departed_at + to_minutes(air_minutes)
    OR arrived_at > departed_at + INTERVAL 1 DAY
