-- Only files that this table has not read yet; what a file says is kept as it says it.
SELECT
    origin,
    year,
    month,
    day,
    hour,
    temp,
    dewp,
    humid,
    wind_dir,
    wind_speed,
    wind_gust,
    precip,
    pressure,
    visib,
    time_hour,
    parse_filename(filename) AS source_file,
    CAST('{{ run_started_at }}' AS TIMESTAMPTZ) AS loaded_at
FROM read_csv(
    '{{ landing_zone('weather', new=true) }}/*.csv',
    header = true,
    delim = ',',
    filename = true,
    types = {
        'origin': 'VARCHAR',
        'year': 'INTEGER',
        'month': 'INTEGER',
        'day': 'INTEGER',
        'hour': 'INTEGER',
        'temp': 'DOUBLE',
        'dewp': 'DOUBLE',
        'humid': 'DOUBLE',
        'wind_dir': 'INTEGER',
        'wind_speed': 'DOUBLE',
        'wind_gust': 'DOUBLE',
        'precip': 'DOUBLE',
        'pressure': 'DOUBLE',
        'visib': 'DOUBLE',
        'time_hour': 'TIMESTAMPTZ'
    }
)
