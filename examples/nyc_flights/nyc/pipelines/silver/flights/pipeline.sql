-- Clock times (hhmm, local) become instants. A delay counts minutes from the scheduled instant, so
-- it also tells the day on which a late flight really left or landed. Departures are on New York's
-- clock, arrivals on that of the destination: NULL where `airports` does not know it.
WITH delivered AS (
    SELECT
        *,
        make_date(year, month, day) AS flight_date
    FROM {{ ref('bronze.flights') }}
    {% if is_incremental() and watermark_value %}
    WHERE loaded_at > CAST('{{ watermark_value }}' AS TIMESTAMPTZ)
    {% endif %}
),

latest AS (
    SELECT *
    FROM delivered
    QUALIFY row_number() OVER (
        PARTITION BY flight_date, carrier, flight, origin
        ORDER BY loaded_at DESC, source_file DESC
    ) = 1
),

clocks AS (
    SELECT
        latest.*,
        airports.time_zone AS destination_zone,
        flight_date
        + to_minutes(sched_dep_time // 100 * 60 + sched_dep_time % 100) AS departure_clock,
        flight_date
        + to_minutes(sched_arr_time // 100 * 60 + sched_arr_time % 100) AS arrival_clock
    FROM latest
    LEFT JOIN {{ ref('silver.airports') }} AS airports ON latest.dest = airports.airport
),

scheduled AS (
    SELECT
        *,
        departure_clock AT TIME ZONE 'America/New_York' AS scheduled_departure_at,
        CASE
            WHEN arrival_clock AT TIME ZONE destination_zone
                > departure_clock AT TIME ZONE 'America/New_York'
                THEN arrival_clock AT TIME ZONE destination_zone
            -- The day is added on the clock: the night in between may have 23 hours.
            ELSE (arrival_clock + INTERVAL 1 DAY) AT TIME ZONE destination_zone
        END AS scheduled_arrival_at
    FROM clocks
)

SELECT
    flight_date,
    carrier,
    flight AS flight_number,
    origin,
    dest AS destination,
    tailnum AS tail_number,
    CASE
        WHEN dep_time IS NULL THEN 'cancelled'
        WHEN arr_delay IS NULL THEN 'diverted'
        ELSE 'completed'
    END AS status,
    scheduled_departure_at,
    scheduled_departure_at + to_minutes(dep_delay) AS departed_at,
    dep_delay AS departure_delay_minutes,
    scheduled_arrival_at,
    scheduled_arrival_at + to_minutes(arr_delay) AS arrived_at,
    arr_delay AS arrival_delay_minutes,
    air_time AS air_minutes,
    distance AS distance_miles,
    source_file,
    loaded_at
FROM scheduled
