-- What people ask of alerts: which are raised, how many came, who was told and how fast.

-- Raised at as_of, and now: that one was raised and is over stands in its events.
CREATE FUNCTION rat.open_alerts(as_of timestamptz DEFAULT now())
RETURNS TABLE (
    severity text,
    alert text,
    "table" text,
    title text,
    since timestamptz,
    deliveries text,
    kind text,
    subject text,
    owner text,
    remediation text,
    definition_id uuid,
    event_id uuid
)
LANGUAGE sql STABLE AS $$
    SELECT
        event.severity,
        coalesce(
            nullif(concat_ws('/', nullif(alert.namespace, ''), alert.name), ''),
            event.payload ->> 'definition',
            event.payload ->> 'kind'
        ),
        event.source_dataset,
        event.payload ->> 'title',
        state.since,
        told.deliveries,
        event.payload ->> 'kind',
        state.subject,
        alert.owner,
        event.payload ->> 'remediation',
        state.definition_id,
        state.event_id
    FROM rat.alert_states AS state
    JOIN trace.alert_events AS event ON event.id = state.event_id
    LEFT JOIN trace.alert_definitions AS alert ON alert.id = state.definition_id
    CROSS JOIN LATERAL (
        SELECT string_agg(channel || ' ' || status, ', ' ORDER BY channel) AS deliveries
        FROM trace.alert_deliveries
        WHERE alert_event_id = state.event_id AND created_at <= as_of
    ) AS told
    WHERE state.since <= as_of
    ORDER BY
        array_position(ARRAY['critical', 'warning', 'info'], event.severity),
        state.since DESC,
        state.event_id
$$;

CREATE FUNCTION rat.alerts_per_day(as_of timestamptz DEFAULT now(), days integer DEFAULT 30)
RETURNS TABLE (day date, critical bigint, warning bigint, info bigint, resolved bigint)
LANGUAGE sql STABLE AS $$
    SELECT
        (event_time AT TIME ZONE 'UTC')::date AS day,
        count(*) FILTER (WHERE severity = 'critical' AND is_firing),
        count(*) FILTER (WHERE severity = 'warning' AND is_firing),
        count(*) FILTER (WHERE severity = 'info' AND is_firing),
        count(*) FILTER (WHERE payload ->> 'state' = 'resolved')
    FROM trace.alert_events
    CROSS JOIN LATERAL (
        SELECT coalesce(payload ->> 'state', 'firing') = 'firing' AS is_firing
    ) AS state
    WHERE created_at > as_of - make_interval(days => days)
        AND created_at <= as_of
        AND event_time > as_of - make_interval(days => days)
        AND event_time <= as_of
    GROUP BY 1
    ORDER BY 1
$$;

CREATE FUNCTION rat.alert_deliveries_by_status(
    as_of timestamptz DEFAULT now(), days integer DEFAULT 30
)
RETURNS TABLE (channel text, status text, deliveries bigint, attempts bigint, oldest timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT channel, status, count(*), coalesce(sum(attempt), 0), min(created_at)
    FROM trace.alert_deliveries
    WHERE created_at > as_of - make_interval(days => days) AND created_at <= as_of
    GROUP BY channel, status
    ORDER BY channel, status
$$;

CREATE FUNCTION rat.time_to_deliver(as_of timestamptz DEFAULT now(), days integer DEFAULT 30)
RETURNS TABLE (
    channel text,
    delivered bigint,
    p50_seconds double precision,
    p95_seconds double precision,
    longest_seconds double precision
)
LANGUAGE sql STABLE AS $$
    SELECT
        delivery.channel,
        count(*),
        percentile_cont(0.5) WITHIN GROUP (ORDER BY took.seconds),
        percentile_cont(0.95) WITHIN GROUP (ORDER BY took.seconds),
        max(took.seconds)
    FROM trace.alert_deliveries AS delivery
    JOIN trace.alert_events AS event ON event.id = delivery.alert_event_id
    CROSS JOIN LATERAL (
        SELECT extract(EPOCH FROM delivery.delivered_at - event.created_at)::double precision
            AS seconds
    ) AS took
    WHERE delivery.status = 'delivered'
        AND delivery.delivered_at > as_of - make_interval(days => days)
        AND delivery.delivered_at <= as_of
    GROUP BY delivery.channel
    ORDER BY delivery.channel
$$;
