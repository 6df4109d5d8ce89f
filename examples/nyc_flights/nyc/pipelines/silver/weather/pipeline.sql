-- @merge_strategy: incremental
-- @unique_key: airport, observed_at
-- `time_hour` is the key: on 3 November the local hour 1 happened twice.
WITH delivered AS (
    SELECT *
    FROM {{ ref('bronze.weather') }}
    {% if is_incremental() and watermark_value %}
    WHERE loaded_at > CAST('{{ watermark_value }}' AS TIMESTAMPTZ)
    {% endif %}
)

SELECT
    origin AS airport,
    time_hour AS observed_at,
    temp AS temperature_f,
    dewp AS dew_point_f,
    humid AS humidity_percent,
    wind_dir AS wind_degrees,
    -- No wind on Earth was ever faster than 253 mph.
    CASE WHEN wind_speed <= 253 THEN wind_speed END AS wind_mph,
    wind_gust AS gust_mph,
    precip AS precipitation_inches,
    pressure AS pressure_millibars,
    visib AS visibility_miles,
    source_file,
    loaded_at
FROM delivered
QUALIFY row_number() OVER (
    PARTITION BY airport, observed_at
    ORDER BY loaded_at DESC, source_file DESC
) = 1
