-- @description: Each month counts every flight of silver, each under one status.
-- @severity: error
-- @tags: reconciliation
-- @remediation: Run nyc.gold.daily_carrier_delays with --full-refresh.
WITH counted AS (
    SELECT
        month,
        sum(flights) AS flights,
        sum(completed + cancelled + diverted) AS flights_by_status
    FROM {{ this }}
    GROUP BY month
),

expected AS (
    SELECT
        CAST(date_trunc('month', flight_date) AS DATE) AS month,
        count(*) AS flights
    FROM {{ ref('silver.flights') }}
    GROUP BY month
)

SELECT
    month,
    expected.flights AS expected_flights,
    counted.flights,
    counted.flights_by_status
FROM expected
FULL JOIN counted USING (month)
WHERE
    expected.flights IS DISTINCT FROM counted.flights
    OR counted.flights IS DISTINCT FROM counted.flights_by_status
