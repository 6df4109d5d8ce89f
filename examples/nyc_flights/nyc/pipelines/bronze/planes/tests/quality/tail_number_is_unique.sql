-- @description: The register lists an aircraft once.
-- @severity: error
-- @tags: uniqueness
-- @remediation: Reject the file (rat reject nyc/planes FILE) and ask for the register again.
SELECT
    tailnum,
    count(*) AS copies
FROM {{ this }}
GROUP BY tailnum
HAVING tailnum IS NULL OR count(*) > 1
