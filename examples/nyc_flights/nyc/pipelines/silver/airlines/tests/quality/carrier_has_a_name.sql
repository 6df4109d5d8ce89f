-- @description: Every carrier code has a name.
-- @severity: error
-- @tags: completeness
-- @remediation: Reject the file (rat reject nyc/airlines FILE) and ask for the list again.
SELECT carrier
FROM {{ this }}
WHERE airline IS NULL OR trim(airline) = ''
