-- Each file is the whole register: when several are new, the last by name counts.
SELECT
    tailnum,
    year,
    type,
    manufacturer,
    model,
    engines,
    seats,
    speed,
    engine,
    parse_filename(filename) AS source_file,
    CAST('{{ run_started_at }}' AS TIMESTAMPTZ) AS loaded_at
FROM read_csv(
    '{{ landing_zone('planes', new=true) }}/*.csv',
    header = true,
    delim = ',',
    filename = true,
    types = {
        'tailnum': 'VARCHAR',
        'year': 'INTEGER',
        'type': 'VARCHAR',
        'manufacturer': 'VARCHAR',
        'model': 'VARCHAR',
        'engines': 'INTEGER',
        'seats': 'INTEGER',
        'speed': 'INTEGER',
        'engine': 'VARCHAR'
    }
)
QUALIFY source_file = max(source_file) OVER ()
