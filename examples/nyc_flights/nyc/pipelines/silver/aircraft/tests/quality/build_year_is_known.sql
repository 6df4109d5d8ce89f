-- @description: The register says when an aircraft was built.
-- @severity: warn
-- @tags: completeness
-- @remediation: Nothing to do: the scorecard's mean leaves these aircraft out.
SELECT
    tail_number,
    manufacturer,
    model
FROM {{ this }}
WHERE valid_to IS NULL AND built_year IS NULL
