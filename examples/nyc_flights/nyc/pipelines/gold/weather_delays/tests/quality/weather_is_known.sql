-- @description: There is a reading for the hour and airport of every departure.
-- @severity: warn
-- @tags: completeness, weather
-- @remediation: Nothing to do when a station was silent for a while (in 2013 all three end on 30 December at 18:00); else ask for the month again.
SELECT
    flights.origin,
    flights.flight_date,
    count(*) AS flights
FROM {{ ref('silver.flights') }} AS flights
LEFT JOIN {{ ref('silver.weather') }} AS weather
    ON
        flights.origin = weather.airport
        AND date_trunc('hour', flights.scheduled_departure_at) = weather.observed_at
WHERE weather.airport IS NULL
GROUP BY
    flights.origin,
    flights.flight_date
ORDER BY
    flights DESC,
    flights.flight_date,
    flights.origin
