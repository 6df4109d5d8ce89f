-- @description: A station reads once an hour.
-- @severity: error
-- @tags: uniqueness
-- @remediation: Look at the strategy and unique_key of nyc.silver.weather.
SELECT
    airport,
    observed_at,
    count(*) AS copies
FROM {{ this }}
GROUP BY
    airport,
    observed_at
HAVING count(*) > 1
