-- @description: A share is between 0 and 100.
-- @severity: error
-- @tags: validity
-- @remediation: Look at the query: a join has multiplied rows.
SELECT
    origin,
    destination,
    cancelled_percent,
    on_time_percent,
    known_aircraft_percent
FROM {{ this }}
WHERE
    NOT cancelled_percent BETWEEN 0 AND 100
    OR NOT on_time_percent BETWEEN 0 AND 100
    OR NOT known_aircraft_percent BETWEEN 0 AND 100
