-- @description: Every destination is an airport whose time zone we know; else its arrivals have no instant.
-- @severity: warn
-- @tags: completeness
-- @remediation: Add the airport to the list in the airports zone, then rat run nyc.silver.flights --full-refresh.
SELECT
    flights.destination,
    count(*) AS flights
FROM {{ this }} AS flights
LEFT JOIN {{ ref('silver.airports') }} AS airports ON flights.destination = airports.airport
WHERE airports.time_zone IS NULL
GROUP BY flights.destination
ORDER BY flights DESC
