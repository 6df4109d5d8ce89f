-- @description: The hours together count every flight of silver once.
-- @severity: error
-- @tags: reconciliation
-- @remediation: Look at the query: the join with the airlines has lost or multiplied rows.
WITH counted AS (
    SELECT coalesce(sum(flights), 0) AS flights
    FROM {{ this }}
),

expected AS (
    SELECT count(*) AS flights
    FROM {{ ref('silver.flights') }}
)

SELECT
    expected.flights AS expected_flights,
    counted.flights
FROM expected
CROSS JOIN counted
WHERE expected.flights <> counted.flights
