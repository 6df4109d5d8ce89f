-- @description: Delays and cancellations by the weather at the hour of departure.
-- @owner: team:punctuality
-- @merge_strategy: full_refresh
WITH departures AS (
    SELECT
        flights.origin,
        flights.status,
        flights.departure_delay_minutes,
        CASE
            WHEN weather.airport IS NULL THEN 'unknown'
            WHEN weather.precipitation_inches >= 0.1 THEN 'rain or snow'
            WHEN weather.precipitation_inches > 0 THEN 'drizzle'
            ELSE 'dry'
        END AS precipitation,
        CASE
            WHEN weather.airport IS NULL THEN 'unknown'
            WHEN weather.visibility_miles < 1 THEN 'below 1 mile'
            WHEN weather.visibility_miles < 5 THEN '1 to 5 miles'
            ELSE '5 miles and more'
        END AS visibility,
        CASE
            WHEN weather.wind_mph IS NULL THEN 'unknown'
            WHEN weather.wind_mph < 13 THEN 'below 13 mph'
            WHEN weather.wind_mph < 25 THEN '13 to 25 mph'
            ELSE '25 mph and more'
        END AS wind
    FROM {{ ref('silver.flights') }} AS flights
    LEFT JOIN {{ ref('silver.weather') }} AS weather
        ON
            flights.origin = weather.airport
            AND date_trunc('hour', flights.scheduled_departure_at) = weather.observed_at
)

SELECT
    origin,
    precipitation,
    visibility,
    wind,
    count(*) AS flights,
    round(100.0 * count(*) FILTER (status = 'cancelled') / count(*), 2) AS cancelled_percent,
    round(
        100.0 * count(*) FILTER (departure_delay_minutes >= 15)
        / nullif(count(departure_delay_minutes), 0),
        2
    ) AS late_percent,
    round(avg(departure_delay_minutes), 2) AS mean_departure_delay_minutes,
    median(departure_delay_minutes) AS median_departure_delay_minutes
FROM departures
GROUP BY
    origin,
    precipitation,
    visibility,
    wind
ORDER BY
    origin,
    precipitation,
    visibility,
    wind
