WITH flights AS (
    SELECT
        *,
        CAST(date_trunc('month', flight_date) AS DATE) AS month
    FROM {{ ref('silver.flights') }}
),

{% if is_snapshot() %}
known_months AS (
    SELECT
        month,
        max(loaded_at) AS loaded_at
    FROM {{ this }}
    GROUP BY month
),

changed_months AS (
    SELECT flights.month
    FROM flights
    LEFT JOIN known_months ON flights.month = known_months.month
    GROUP BY
        flights.month,
        known_months.loaded_at
    HAVING known_months.loaded_at IS NULL OR max(flights.loaded_at) > known_months.loaded_at
)
{% else %}
changed_months AS (
    SELECT DISTINCT month
    FROM flights
)
{% endif %}

SELECT
    month,
    flight_date,
    carrier,
    count(*) AS flights,
    count(*) FILTER (status = 'completed') AS completed,
    count(*) FILTER (status = 'cancelled') AS cancelled,
    count(*) FILTER (status = 'diverted') AS diverted,
    count(*) FILTER (arrival_delay_minutes >= 15) AS late,
    round(avg(departure_delay_minutes), 2) AS mean_departure_delay_minutes,
    round(avg(arrival_delay_minutes), 2) AS mean_arrival_delay_minutes,
    max(arrival_delay_minutes) AS worst_arrival_delay_minutes,
    max(loaded_at) AS loaded_at
FROM flights
WHERE month IN (FROM changed_months)
GROUP BY
    month,
    flight_date,
    carrier
ORDER BY
    flight_date,
    carrier
