-- @description: Every aircraft with its history, one row a version; the open version has no valid_to.
-- @owner: team:fleet
-- @merge_strategy: scd2
-- @unique_key: tail_number
-- @scd_close_missing: true
-- No load time here: a register that is delivered again unchanged is no new version.
SELECT
    tailnum AS tail_number,
    year AS built_year,
    type AS aircraft_type,
    manufacturer,
    model,
    engines,
    seats,
    speed AS cruise_mph,
    engine AS engine_type
FROM {{ ref('bronze.planes') }}
