-- @description: Carrier codes and names. A view: sixteen rows need no copy of their own.
-- @owner: team:flight-data
-- @materialized: view
SELECT
    carrier,
    name AS airline
FROM {{ ref('nyc.bronze.airlines') }}
