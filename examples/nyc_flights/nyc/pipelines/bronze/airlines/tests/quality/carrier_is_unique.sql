-- @description: The list names a carrier once.
-- @severity: error
-- @tags: uniqueness
-- @remediation: Reject the file (rat reject nyc/airlines FILE) and ask for the list again.
SELECT
    carrier,
    count(*) AS copies
FROM {{ this }}
GROUP BY carrier
HAVING carrier IS NULL OR count(*) > 1
