-- @description: The instant of departure shows the clock time that the airline reported.
-- @severity: error
-- @tags: time
-- @remediation: The delay or the clock was reported wrong: compare both in nyc.bronze.flights.
WITH reported AS (
    SELECT
        make_date(year, month, day) AS flight_date,
        carrier,
        flight AS flight_number,
        origin,
        source_file,
        loaded_at,
        -- Midnight is reported as 2400.
        dep_time % 2400 AS clock
    FROM {{ ref('bronze.flights') }}
)

SELECT
    flights.flight_date,
    flights.carrier,
    flights.flight_number,
    flights.origin,
    reported.clock AS reported_clock,
    flights.departed_at AT TIME ZONE 'America/New_York' AS local_departure
FROM {{ this }} AS flights
INNER JOIN reported
    ON
        flights.flight_date = reported.flight_date
        AND flights.carrier = reported.carrier
        AND flights.flight_number = reported.flight_number
        AND flights.origin = reported.origin
        AND flights.source_file = reported.source_file
        AND flights.loaded_at = reported.loaded_at
WHERE CAST(strftime(local_departure, '%H%M') AS INTEGER) <> reported.clock
