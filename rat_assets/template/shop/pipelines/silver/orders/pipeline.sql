SELECT
    id,
    trim(customer) AS customer,
    amount::DECIMAL(12, 2) AS amount,
    ordered_at,
    loaded_at
FROM {{ ref('bronze.orders') }}
{% if watermark_value %}
WHERE loaded_at > '{{ watermark_value }}'
{% endif %}
