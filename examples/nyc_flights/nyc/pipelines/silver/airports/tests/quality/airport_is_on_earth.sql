-- @description: A code is there once, and its position is on the globe.
-- @severity: error
-- @tags: validity
-- @remediation: Reject the file (rat reject nyc/airports FILE) and ask for the list again.
SELECT
    airport,
    any_value(latitude) AS latitude,
    any_value(longitude) AS longitude,
    count(*) AS copies
FROM {{ this }}
GROUP BY airport
HAVING
    count(*) > 1
    OR NOT bool_and(latitude BETWEEN -90 AND 90 AND longitude BETWEEN -180 AND 180)
