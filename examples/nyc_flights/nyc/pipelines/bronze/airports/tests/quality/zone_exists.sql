-- @description: A time zone that is given is one that exists.
-- @severity: error
-- @tags: validity, time
-- @remediation: Reject the file (rat reject nyc/airports FILE) and ask for the list again.
SELECT
    faa,
    tzone
FROM {{ this }}
WHERE tzone IS NOT NULL AND tzone NOT IN (SELECT name FROM pg_timezone_names())
