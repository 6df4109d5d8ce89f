-- @description: Airports by their FAA code, with position and time zone.
-- @owner: team:flight-data
-- @merge_strategy: full_refresh
SELECT
    faa AS airport,
    name AS airport_name,
    lat AS latitude,
    lon AS longitude,
    alt AS altitude_feet,
    tzone AS time_zone,
    tz AS standard_utc_offset_hours
FROM {{ ref('bronze.airports') }}
