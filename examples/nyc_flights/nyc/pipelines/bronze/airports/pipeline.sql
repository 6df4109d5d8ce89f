-- Each file is the whole list: when several are new, the last by name counts.
SELECT
    faa,
    name,
    lat,
    lon,
    alt,
    tz,
    dst,
    tzone,
    parse_filename(filename) AS source_file,
    CAST('{{ run_started_at }}' AS TIMESTAMPTZ) AS loaded_at
FROM read_csv(
    '{{ landing_zone('airports', new=true) }}/*.csv',
    header = true,
    delim = ',',
    filename = true,
    types = {
        'faa': 'VARCHAR',
        'name': 'VARCHAR',
        'lat': 'DOUBLE',
        'lon': 'DOUBLE',
        'alt': 'INTEGER',
        'tz': 'INTEGER',
        'dst': 'VARCHAR',
        'tzone': 'VARCHAR'
    }
)
QUALIFY source_file = max(source_file) OVER ()
