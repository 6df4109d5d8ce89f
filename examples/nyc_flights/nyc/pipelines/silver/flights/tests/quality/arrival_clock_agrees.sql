-- @description: The instant of arrival shows the clock time that the airline reported.
-- @severity: warn
-- @tags: time
-- @remediation: Expected in the night in which summer time begins: the airline's clock was not put forward.
WITH reported AS (
    SELECT
        make_date(year, month, day) AS flight_date,
        carrier,
        flight AS flight_number,
        origin,
        source_file,
        loaded_at,
        -- Midnight is reported as 2400.
        arr_time % 2400 AS clock
    FROM {{ ref('bronze.flights') }}
)

SELECT
    flights.flight_date,
    flights.carrier,
    flights.flight_number,
    flights.origin,
    flights.destination,
    reported.clock AS reported_clock,
    flights.arrived_at AT TIME ZONE airports.time_zone AS local_arrival
FROM {{ this }} AS flights
INNER JOIN {{ ref('silver.airports') }} AS airports ON flights.destination = airports.airport
INNER JOIN reported
    ON
        flights.flight_date = reported.flight_date
        AND flights.carrier = reported.carrier
        AND flights.flight_number = reported.flight_number
        AND flights.origin = reported.origin
        AND flights.source_file = reported.source_file
        AND flights.loaded_at = reported.loaded_at
WHERE CAST(strftime(local_arrival, '%H%M') AS INTEGER) <> reported.clock
