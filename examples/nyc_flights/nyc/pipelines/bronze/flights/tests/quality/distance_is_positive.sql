-- @description: A route has a length.
-- @severity: error
-- @tags: validity
-- @remediation: Reject the file (rat reject nyc/flights FILE) and ask the sender for the right one.
SELECT
    source_file,
    year,
    month,
    day,
    carrier,
    flight,
    distance
FROM {{ this }}
WHERE distance IS NULL OR distance <= 0
