-- @description: A flight is there once, whatever was delivered how often.
-- @severity: error
-- @tags: uniqueness
-- @remediation: Look at the strategy and unique_key of nyc.silver.flights.
SELECT
    flight_date,
    carrier,
    flight_number,
    origin,
    count(*) AS copies
FROM {{ this }}
GROUP BY
    flight_date,
    carrier,
    flight_number,
    origin
HAVING count(*) > 1
