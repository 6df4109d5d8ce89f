-- @description: No wind on Earth was ever faster than 253 mph.
-- @severity: warn
-- @tags: validity
-- @remediation: Nothing to do: nyc.silver.weather leaves the value out. Tell the station's operator when it goes on.
SELECT
    source_file,
    origin,
    time_hour,
    wind_speed
FROM {{ this }}
WHERE wind_speed > 253
