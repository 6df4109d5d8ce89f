-- @description: An aircraft has at most one version that is open.
-- @severity: error
-- @tags: uniqueness, history
-- @remediation: Restore the table to its last good state; two runs must have written it.
SELECT
    tail_number,
    count(*) AS open_versions
FROM {{ this }}
WHERE valid_to IS NULL
GROUP BY tail_number
HAVING count(*) > 1
