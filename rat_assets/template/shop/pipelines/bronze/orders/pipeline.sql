SELECT
    id,
    customer,
    amount,
    ordered_at,
    '{{ run_started_at }}'::TIMESTAMPTZ AS loaded_at
FROM read_csv('{{ landing_zone('orders', new=true) }}/*.csv', header = true)
