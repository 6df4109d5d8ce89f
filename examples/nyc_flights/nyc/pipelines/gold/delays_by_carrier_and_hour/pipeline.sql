-- The hour is the scheduled one, on New York's clock: by then a day's delays have added up, or not.
SELECT
    flights.carrier,
    coalesce(any_value(airlines.airline), flights.carrier) AS airline,
    hour(flights.scheduled_departure_at AT TIME ZONE 'America/New_York') AS scheduled_hour,
    count(*) AS flights,
    count(*) FILTER (flights.departure_delay_minutes >= 15) AS late,
    round(avg(flights.departure_delay_minutes), 2) AS mean_departure_delay_minutes
FROM {{ ref('silver.flights') }} AS flights
LEFT JOIN {{ ref('silver.airlines') }} AS airlines ON flights.carrier = airlines.carrier
GROUP BY
    flights.carrier,
    scheduled_hour
ORDER BY
    flights.carrier,
    scheduled_hour
