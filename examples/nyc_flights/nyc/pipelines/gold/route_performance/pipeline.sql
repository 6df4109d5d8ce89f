WITH aircraft AS (
    SELECT
        tail_number,
        seats
    FROM {{ ref('silver.aircraft') }}
    WHERE valid_to IS NULL
)

SELECT
    flights.origin,
    flights.destination,
    any_value(origins.latitude) AS origin_latitude,
    any_value(origins.longitude) AS origin_longitude,
    coalesce(any_value(airports.airport_name), flights.destination) AS destination_name,
    any_value(airports.latitude) AS destination_latitude,
    any_value(airports.longitude) AS destination_longitude,
    max(flights.distance_miles) AS distance_miles,
    count(DISTINCT flights.carrier) AS carriers,
    count(*) AS flights,
    round(100.0 * count(*) FILTER (flights.status = 'cancelled') / count(*), 2) AS cancelled_percent,
    round(
        100.0 * count(*) FILTER (flights.arrival_delay_minutes < 15)
        / nullif(count(*) FILTER (flights.status = 'completed'), 0),
        2
    ) AS on_time_percent,
    round(avg(flights.departure_delay_minutes), 2) AS mean_departure_delay_minutes,
    round(avg(flights.arrival_delay_minutes), 2) AS mean_arrival_delay_minutes,
    median(flights.arrival_delay_minutes) AS median_arrival_delay_minutes,
    round(60 * avg(flights.distance_miles / flights.air_minutes), 1) AS mean_mph,
    round(avg(aircraft.seats), 1) AS mean_seats,
    round(100.0 * count(aircraft.tail_number) / count(*), 2) AS known_aircraft_percent
FROM {{ ref('silver.flights') }} AS flights
LEFT JOIN {{ ref('silver.airports') }} AS airports ON flights.destination = airports.airport
LEFT JOIN {{ ref('silver.airports') }} AS origins ON flights.origin = origins.airport
LEFT JOIN aircraft ON flights.tail_number = aircraft.tail_number
GROUP BY
    flights.origin,
    flights.destination
ORDER BY
    flights.origin,
    flights.destination
