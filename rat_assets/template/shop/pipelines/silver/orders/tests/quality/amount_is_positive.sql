-- @description: Nobody orders for nothing
-- @severity: error
-- @remediation: Ask the shop what it sent
SELECT *
FROM {{ this }}
WHERE amount <= 0
