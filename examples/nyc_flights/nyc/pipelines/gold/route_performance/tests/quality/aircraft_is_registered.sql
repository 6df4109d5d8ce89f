-- @description: Every tail number that flew is in the aircraft register.
-- @severity: warn
-- @tags: completeness, planes
-- @remediation: American (AA) and Envoy (MQ) report fleet numbers instead of tail numbers; mean_seats and known_aircraft_percent leave them out.
SELECT
    flights.tail_number,
    string_agg(DISTINCT flights.carrier, ', ') AS carriers,
    count(*) AS flights
FROM {{ ref('silver.flights') }} AS flights
LEFT JOIN {{ ref('silver.aircraft') }} AS aircraft ON flights.tail_number = aircraft.tail_number
WHERE flights.tail_number IS NOT NULL AND aircraft.tail_number IS NULL
GROUP BY flights.tail_number
ORDER BY
    flights DESC,
    flights.tail_number
