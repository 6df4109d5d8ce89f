-- @description: Every flight leaves from EWR, JFK or LGA.
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
    origin
FROM {{ this }}
WHERE origin IS NULL OR origin NOT IN ('EWR', 'JFK', 'LGA')
