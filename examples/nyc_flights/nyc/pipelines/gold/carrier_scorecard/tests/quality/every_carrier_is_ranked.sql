-- @description: Each carrier that flew has a name, one rank and a grade.
-- @severity: error
-- @tags: reconciliation
-- @remediation: A carrier is missing in the airlines zone, or was counted twice.
WITH carriers AS (
    SELECT DISTINCT carrier
    FROM {{ ref('gold.daily_carrier_delays') }}
)

SELECT
    carrier,
    any_value(scorecard.airline) AS airline,
    count(scorecard.rank) AS ranks
FROM carriers
FULL JOIN {{ this }} AS scorecard USING (carrier)
GROUP BY carrier
HAVING count(scorecard.rank) <> 1 OR any_value(scorecard.airline) IS NULL
