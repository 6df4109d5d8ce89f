-- @description: A scheduled hour is between 0 and 23, and fewer flights are late than there are.
-- @severity: error
-- @tags: validity
-- @remediation: Look at the scheduled departures of silver.flights.
SELECT
    carrier,
    scheduled_hour,
    flights,
    late
FROM {{ this }}
WHERE scheduled_hour NOT BETWEEN 0 AND 23 OR late > flights
