-- Each file is the whole list: when several are new, the last by name counts.
SELECT
    carrier,
    name,
    parse_filename(filename) AS source_file,
    CAST('{{ run_started_at }}' AS TIMESTAMPTZ) AS loaded_at
FROM read_csv(
    '{{ landing_zone('airlines', new=true) }}/*.csv',
    header = true,
    delim = ',',
    filename = true,
    types = {
        'carrier': 'VARCHAR',
        'name': 'VARCHAR'
    }
)
QUALIFY source_file = max(source_file) OVER ()
