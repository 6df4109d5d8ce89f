-- What people ask of clients' health. Each takes an as_of, the moment from which it looks back, and
-- answers in an order that does not change. A run happened at its event time: it finished, else
-- started, else was first heard of.

CREATE FUNCTION chm.require(holds boolean, what text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF holds THEN
        RETURN true;
    END IF;
    RAISE EXCEPTION '%', what USING ERRCODE = 'invalid_parameter_value';
END $$;

-- The latest of each pipeline: what is kept, but where it came after as_of.

CREATE FUNCTION chm.latest_at(as_of timestamptz DEFAULT now())
RETURNS TABLE (
    pipeline_id uuid,
    run_id uuid,
    status chm.run_status,
    started_at timestamptz,
    finished_at timestamptz,
    created_at timestamptz
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT kept.pipeline_id, kept.run_id, kept.status, kept.started_at, kept.finished_at, kept.created_at
    FROM chm.latest_runs AS kept
    WHERE NOT kept.succeeded AND COALESCE(kept.started_at, kept.created_at) <= as_of
    UNION ALL
    SELECT kept.pipeline_id, latest.*
    FROM chm.latest_runs AS kept
    CROSS JOIN LATERAL (
        SELECT runs.id, runs.status, runs.started_at, runs.finished_at, runs.created_at
        FROM chm.runs
        WHERE runs.pipeline_id = kept.pipeline_id
            AND COALESCE(runs.started_at, runs.created_at) <= as_of
        ORDER BY runs.started_at DESC NULLS LAST, runs.finished_at DESC NULLS LAST, runs.id DESC
        LIMIT 1
    ) AS latest
    WHERE NOT kept.succeeded AND COALESCE(kept.started_at, kept.created_at) > as_of
$$;

CREATE FUNCTION chm.latest_success_at(as_of timestamptz DEFAULT now())
RETURNS TABLE (pipeline_id uuid, event_time timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT kept.pipeline_id, kept.event_time
    FROM chm.latest_runs AS kept
    WHERE kept.succeeded AND kept.event_time <= as_of
    UNION ALL
    SELECT kept.pipeline_id, latest.event_time
    FROM chm.latest_runs AS kept
    CROSS JOIN LATERAL (
        SELECT runs.event_time
        FROM chm.runs
        WHERE runs.pipeline_id = kept.pipeline_id
            AND runs.status = 'success'
            AND runs.event_time <= as_of
        ORDER BY runs.started_at DESC NULLS LAST, runs.event_time DESC
        LIMIT 1
    ) AS latest
    WHERE kept.succeeded AND kept.event_time > as_of
$$;

-- The six outputs of the contract

CREATE FUNCTION chm.failures_over_time(
    as_of timestamptz DEFAULT now(),
    bucket text DEFAULT 'day',
    since timestamptz DEFAULT NULL,
    until timestamptz DEFAULT NULL
)
RETURNS TABLE (ts_bucket timestamptz, failed_runs bigint)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT date_trunc(bucket, runs.event_time, 'UTC'), count(*)
    FROM chm.runs
    WHERE runs.status = 'failed'
        AND runs.event_time >= COALESCE(since, as_of - INTERVAL '30 days')
        AND runs.event_time < COALESCE(until, as_of)
        AND chm.require(
            bucket IN ('minute', 'hour', 'day', 'week'),
            'bucket is minute, hour, day or week'
        )
    GROUP BY 1
    ORDER BY 1
$$;
COMMENT ON FUNCTION chm.failures_over_time IS
    'Failed runs by bucket of event time in [since, until), by default the 30 days before as_of; buckets without failures are absent';

CREATE FUNCTION chm.latest_status(as_of timestamptz DEFAULT now())
RETURNS TABLE (
    client varchar,
    pipeline varchar,
    platform chm.platform,
    environment chm.environment,
    latest_status chm.run_status,
    last_run_time timestamptz,
    run_id uuid,
    pipeline_id uuid
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        clients.name,
        pipelines.name,
        pipelines.platform,
        pipelines.environment,
        latest.status,
        COALESCE(latest.started_at, latest.finished_at, latest.created_at),
        latest.run_id,
        pipelines.id
    FROM chm.clients
    JOIN chm.pipelines ON pipelines.client_id = clients.id AND pipelines.is_active
    LEFT JOIN chm.latest_at(as_of) AS latest ON latest.pipeline_id = pipelines.id
    WHERE clients.is_active
    ORDER BY clients.name, pipelines.name
$$;
COMMENT ON FUNCTION chm.latest_status IS
    'Q3. The latest run of every active pipeline of every active client; NULLs where it never ran. Latest: started last, then finished last; last_run_time is the start, else the finish';

CREATE FUNCTION chm.failures_per_client(as_of timestamptz DEFAULT now())
RETURNS TABLE (client varchar, failed_24h bigint, failed_7d bigint)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH failed AS (
        SELECT
            runs.pipeline_id,
            count(*) FILTER (WHERE runs.event_time >= as_of - INTERVAL '24 hours') AS failed_24h,
            count(*) AS failed_7d
        FROM chm.runs
        WHERE runs.status = 'failed' AND runs.event_time >= as_of - INTERVAL '7 days'
        GROUP BY runs.pipeline_id
    )

    SELECT
        clients.name,
        COALESCE(sum(failed.failed_24h), 0)::bigint,
        COALESCE(sum(failed.failed_7d), 0)::bigint
    FROM chm.clients
    LEFT JOIN chm.pipelines ON pipelines.client_id = clients.id
    LEFT JOIN failed ON failed.pipeline_id = pipelines.id
    GROUP BY clients.id
    ORDER BY 2 DESC, 3 DESC, clients.name
$$;
COMMENT ON FUNCTION chm.failures_per_client IS
    'Failed runs of every client, inactive ones too, since 24 hours and since 7 days before as_of; what failed after as_of counts too';

CREATE FUNCTION chm.top_flaky(as_of timestamptz DEFAULT now(), top integer DEFAULT 20)
RETURNS TABLE (
    client varchar,
    pipeline varchar,
    failure_count bigint,
    total_runs bigint,
    failure_rate numeric
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH counted AS (
        SELECT
            runs.pipeline_id,
            count(*) FILTER (WHERE runs.status = 'failed') AS failed,
            count(*) AS total
        FROM chm.runs
        WHERE runs.event_time >= as_of - INTERVAL '30 days' AND runs.event_time <= as_of
        GROUP BY runs.pipeline_id
    )

    SELECT
        clients.name,
        pipelines.name,
        COALESCE(counted.failed, 0),
        COALESCE(counted.total, 0),
        COALESCE(round(counted.failed::numeric / counted.total, 4), 0)
    FROM chm.pipelines
    JOIN chm.clients ON clients.id = pipelines.client_id
    LEFT JOIN counted ON counted.pipeline_id = pipelines.id
    ORDER BY 3 DESC, 5 DESC, 4 DESC, clients.name, pipelines.name
    LIMIT top
$$;
COMMENT ON FUNCTION chm.top_flaky IS
    'Q9. The pipelines that failed most often in the 30 days before as_of, inactive ones too; the rate is over all their runs, unfinished ones too';

CREATE FUNCTION chm.failure_rate_by_platform(
    as_of timestamptz DEFAULT now(),
    since timestamptz DEFAULT NULL,
    until timestamptz DEFAULT NULL
)
RETURNS TABLE (
    platform chm.platform, failures bigint, total_runs bigint, failure_rate numeric
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH counted AS (
        SELECT
            runs.pipeline_id,
            count(*) FILTER (WHERE runs.status = 'failed') AS failed,
            count(*) AS total
        FROM chm.runs
        WHERE runs.event_time >= COALESCE(since, as_of - INTERVAL '30 days')
            AND runs.event_time < COALESCE(until, as_of)
        GROUP BY runs.pipeline_id
    )

    SELECT
        pipelines.platform,
        sum(counted.failed)::bigint,
        sum(counted.total)::bigint,
        round(sum(counted.failed) / sum(counted.total), 4)
    FROM counted
    JOIN chm.pipelines ON pipelines.id = counted.pipeline_id
    GROUP BY pipelines.platform
    ORDER BY 4 DESC, pipelines.platform
$$;
COMMENT ON FUNCTION chm.failure_rate_by_platform IS
    'Failed of all runs by platform in [since, until), by default the 30 days before as_of; platforms without runs are absent';

CREATE FUNCTION chm.duration_distribution(
    as_of timestamptz DEFAULT now(),
    since timestamptz DEFAULT NULL,
    until timestamptz DEFAULT NULL,
    max_duration integer DEFAULT 3600,
    bucket_count integer DEFAULT 10
)
RETURNS TABLE (
    bucket integer, from_seconds numeric, to_seconds numeric, run_count bigint
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        found.bucket,
        round((found.bucket - 1) * max_duration::numeric / bucket_count, 2),
        CASE WHEN found.bucket <= bucket_count
            THEN round(found.bucket * max_duration::numeric / bucket_count, 2)
        END,
        found.run_count
    FROM (
        SELECT
            width_bucket(runs.duration_seconds::float8, 0, max_duration, bucket_count) AS bucket,
            count(*) AS run_count
        FROM chm.runs
        WHERE runs.event_time >= COALESCE(since, as_of - INTERVAL '30 days')
            AND runs.event_time < COALESCE(until, as_of)
            AND runs.duration_seconds IS NOT NULL
            AND chm.require(
                max_duration > 0 AND bucket_count > 0,
                'max_duration and bucket_count are greater than 0'
            )
        GROUP BY 1
    ) AS found
    ORDER BY found.bucket
$$;
COMMENT ON FUNCTION chm.duration_distribution IS
    'Runs by duration in bucket_count equal buckets up to max_duration seconds, and one more for all that took longer; runs without a duration are left out';

-- The ten questions, but for those that an output of the contract answers (Q3, Q9)

CREATE FUNCTION chm.weekly_run_health(
    as_of timestamptz DEFAULT now(), weeks integer DEFAULT 12
)
RETURNS TABLE (week timestamptz, status chm.run_status, run_count bigint)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    -- Week by week: how many groups there are of all runs, the planner cannot know.
    SELECT calendar.week, counted.status, counted.run_count
    FROM generate_series(
        date_trunc(
            'week',
            COALESCE(
                as_of - make_interval(days => 7 * (weeks - 1)),
                (SELECT min(runs.event_time) FROM chm.runs)
            ),
            'UTC'
        ),
        as_of,
        INTERVAL '168 hours'
    ) AS calendar (week)
    CROSS JOIN LATERAL (
        SELECT runs.status, count(*) AS run_count
        FROM chm.runs
        WHERE runs.event_time >= calendar.week
            AND runs.event_time < calendar.week + INTERVAL '168 hours'
            AND runs.event_time <= as_of
        GROUP BY runs.status
    ) AS counted
    ORDER BY calendar.week, counted.status
$$;
COMMENT ON FUNCTION chm.weekly_run_health IS
    'Q1. Runs by week and status, of all pipelines, inactive ones too; weeks NULL: since the first run';

CREATE FUNCTION chm.client_risk(as_of timestamptz DEFAULT now())
RETURNS TABLE (
    client varchar, total_runs_7d bigint, failed_runs_7d bigint, failure_rate_pct numeric
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH counted AS (
        SELECT
            runs.pipeline_id,
            count(*) FILTER (WHERE runs.status = 'failed') AS failed,
            count(*) AS total
        FROM chm.runs
        WHERE runs.event_time >= as_of - INTERVAL '7 days' AND runs.event_time <= as_of
        GROUP BY runs.pipeline_id
    )

    SELECT
        clients.name,
        sum(counted.total)::bigint,
        sum(counted.failed)::bigint,
        round(100 * sum(counted.failed) / sum(counted.total), 2)
    FROM counted
    JOIN chm.pipelines ON pipelines.id = counted.pipeline_id AND pipelines.is_active
    JOIN chm.clients ON clients.id = pipelines.client_id AND clients.is_active
    GROUP BY clients.id
    ORDER BY 4 DESC, 3 DESC, clients.name
$$;
COMMENT ON FUNCTION chm.client_risk IS
    'Q2. Failed of all runs in the 7 days before as_of by active client, in per cent, of active pipelines; clients without runs are absent';

CREATE FUNCTION chm.vendor_dependency_risk(as_of timestamptz DEFAULT now())
RETURNS TABLE (
    platform_group text, total_runs_30d bigint, failed_runs_30d bigint, failure_rate_pct numeric
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH counted AS (
        SELECT
            runs.pipeline_id,
            count(*) FILTER (WHERE runs.status = 'failed') AS failed,
            count(*) AS total
        FROM chm.runs
        WHERE runs.event_time >= as_of - INTERVAL '30 days' AND runs.event_time <= as_of
        GROUP BY runs.pipeline_id
    )

    SELECT
        CASE WHEN pipelines.platform = 'vendor_api' THEN 'vendor_api' ELSE 'other_platforms' END,
        sum(counted.total)::bigint,
        sum(counted.failed)::bigint,
        round(100 * sum(counted.failed) / sum(counted.total), 2)
    FROM counted
    JOIN chm.pipelines ON pipelines.id = counted.pipeline_id
    GROUP BY 1
    ORDER BY 4 DESC, 1
$$;
COMMENT ON FUNCTION chm.vendor_dependency_risk IS
    'Q4. Failed of all runs in the 30 days before as_of, in per cent: vendors'' APIs against all other platforms, inactive pipelines too';

CREATE FUNCTION chm.failures_since_yesterday(as_of timestamptz DEFAULT now())
RETURNS TABLE (client varchar, failed_24h bigint, failed_24h_before bigint, change bigint)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH failed AS (
        SELECT
            runs.pipeline_id,
            count(*) FILTER (WHERE runs.event_time >= as_of - INTERVAL '24 hours') AS today,
            count(*) FILTER (WHERE runs.event_time < as_of - INTERVAL '24 hours') AS yesterday
        FROM chm.runs
        WHERE runs.status = 'failed'
            AND runs.event_time >= as_of - INTERVAL '48 hours'
            AND runs.event_time <= as_of
        GROUP BY runs.pipeline_id
    )

    SELECT
        clients.name,
        COALESCE(sum(failed.today), 0)::bigint,
        COALESCE(sum(failed.yesterday), 0)::bigint,
        COALESCE(sum(failed.today) - sum(failed.yesterday), 0)::bigint
    FROM chm.clients
    LEFT JOIN chm.pipelines ON pipelines.client_id = clients.id
    LEFT JOIN failed ON failed.pipeline_id = pipelines.id
    GROUP BY clients.id
    ORDER BY 4 DESC, 2 DESC, clients.name
$$;
COMMENT ON FUNCTION chm.failures_since_yesterday IS
    'Q5. Failed runs of every client, inactive ones too, in the 24 hours before as_of against the 24 hours before those';

CREATE FUNCTION chm.client_throughput(as_of timestamptz DEFAULT now())
RETURNS TABLE (
    client varchar,
    runs_30d bigint,
    total_rows_30d numeric,
    avg_rows_per_run numeric,
    throughput_cv numeric
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        clients.name,
        count(*),
        COALESCE(sum(runs.rows_processed), 0),
        round(avg(runs.rows_processed), 2),
        round(
            (stddev_pop(runs.rows_processed::float8) / NULLIF(avg(runs.rows_processed::float8), 0))::numeric,
            3
        )
    FROM chm.runs
    JOIN chm.pipelines ON pipelines.id = runs.pipeline_id AND pipelines.is_active
    JOIN chm.clients ON clients.id = pipelines.client_id AND clients.is_active
    WHERE runs.event_time >= as_of - INTERVAL '30 days' AND runs.event_time <= as_of
    GROUP BY clients.id
    ORDER BY 3 DESC, clients.name
$$;
COMMENT ON FUNCTION chm.client_throughput IS
    'Q6. Runs and rows in the 30 days before as_of by active client, of active pipelines; throughput_cv is the population''s standard deviation of a run''s rows over their mean; runs without a count of rows only count as runs';

CREATE FUNCTION chm.freshness_watchlist(as_of timestamptz DEFAULT now())
RETURNS TABLE (
    client varchar,
    pipeline varchar,
    platform chm.platform,
    environment chm.environment,
    last_run_at timestamptz,
    last_success_at timestamptz,
    success_age interval
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        clients.name,
        pipelines.name,
        pipelines.platform,
        pipelines.environment,
        COALESCE(latest.started_at, latest.finished_at, latest.created_at),
        success.event_time,
        as_of - success.event_time
    FROM chm.clients
    JOIN chm.pipelines ON pipelines.client_id = clients.id AND pipelines.is_active
    LEFT JOIN chm.latest_at(as_of) AS latest ON latest.pipeline_id = pipelines.id
    LEFT JOIN chm.latest_success_at(as_of) AS success ON success.pipeline_id = pipelines.id
    WHERE clients.is_active
    ORDER BY success.event_time NULLS FIRST, clients.name, pipelines.name
$$;
COMMENT ON FUNCTION chm.freshness_watchlist IS
    'Q7. When every active pipeline last ran and last succeeded; those that never did come first, then the oldest';

CREATE FUNCTION chm.reliability_by_environment(as_of timestamptz DEFAULT now())
RETURNS TABLE (
    environment chm.environment,
    total_runs_30d bigint,
    failed_runs_30d bigint,
    failure_rate_pct numeric
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH counted AS (
        SELECT
            runs.pipeline_id,
            count(*) FILTER (WHERE runs.status = 'failed') AS failed,
            count(*) AS total
        FROM chm.runs
        WHERE runs.event_time >= as_of - INTERVAL '30 days' AND runs.event_time <= as_of
        GROUP BY runs.pipeline_id
    )

    SELECT
        pipelines.environment,
        sum(counted.total)::bigint,
        sum(counted.failed)::bigint,
        round(100 * sum(counted.failed) / sum(counted.total), 2)
    FROM counted
    JOIN chm.pipelines ON pipelines.id = counted.pipeline_id AND pipelines.is_active
    JOIN chm.clients ON clients.id = pipelines.client_id AND clients.is_active
    GROUP BY pipelines.environment
    ORDER BY 4 DESC, pipelines.environment
$$;
COMMENT ON FUNCTION chm.reliability_by_environment IS
    'Q8. Failed of all runs in the 30 days before as_of by environment, in per cent, of active pipelines of active clients';

CREATE FUNCTION chm.governance_gaps(
    as_of timestamptz DEFAULT now(), recent interval DEFAULT INTERVAL '7 days'
)
RETURNS TABLE (client varchar, pipeline varchar, gap text)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH active AS (
        SELECT pipelines.*, clients.name AS client, clients.is_active AND pipelines.is_active AS counts
        FROM chm.pipelines
        JOIN chm.clients ON clients.id = pipelines.client_id
    )

    SELECT active.client, active.name, 'no enabled alert rule'
    FROM active
    WHERE active.counts
        AND NOT EXISTS (
            SELECT FROM chm.alert_rules
            WHERE alert_rules.pipeline_id = active.id AND alert_rules.is_enabled
        )
        AND NOT EXISTS (
            SELECT FROM chm.alert_rules
            WHERE alert_rules.client_id = active.client_id
                AND alert_rules.pipeline_id IS NULL AND alert_rules.is_enabled
        )
    UNION ALL
    SELECT active.client, active.name, 'no external id'
    FROM active
    WHERE active.counts AND active.external_id IS NULL
    UNION ALL
    SELECT active.client, active.name, 'inactive, with recent runs'
    FROM active
    WHERE NOT active.counts AND EXISTS (
        SELECT FROM chm.runs
        WHERE runs.pipeline_id = active.id
            AND runs.event_time > as_of - recent AND runs.event_time <= as_of
    )
    ORDER BY 3, 1, 2
$$;
COMMENT ON FUNCTION chm.governance_gaps IS
    'Q10. Active pipelines that no enabled rule watches or that have no external id, and inactive ones that ran recently';

-- One pipeline, one client

CREATE FUNCTION chm.run_history(
    pipeline_id uuid,
    status chm.run_status DEFAULT NULL,
    since timestamptz DEFAULT NULL,
    until timestamptz DEFAULT NULL,
    top integer DEFAULT 100,
    ascending boolean DEFAULT false
)
RETURNS SETOF chm.runs
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    (
        SELECT runs.*
        FROM chm.runs
        WHERE runs.pipeline_id = run_history.pipeline_id
            AND NOT run_history.ascending
            AND (run_history.status IS NULL OR runs.status = run_history.status)
            AND (since IS NULL OR runs.started_at >= since)
            AND (until IS NULL OR runs.started_at < until)
            AND chm.require(top BETWEEN 1 AND 1000, 'top is between 1 and 1000')
        ORDER BY runs.started_at DESC NULLS LAST, runs.finished_at DESC NULLS LAST, runs.id DESC
        LIMIT top
    )
    UNION ALL
    (
        SELECT runs.*
        FROM chm.runs
        WHERE runs.pipeline_id = run_history.pipeline_id
            AND run_history.ascending
            AND (run_history.status IS NULL OR runs.status = run_history.status)
            AND (since IS NULL OR runs.started_at >= since)
            AND (until IS NULL OR runs.started_at < until)
            AND chm.require(top BETWEEN 1 AND 1000, 'top is between 1 and 1000')
        ORDER BY runs.started_at NULLS FIRST, runs.finished_at NULLS FIRST, runs.id
        LIMIT top
    )
$$;
COMMENT ON FUNCTION chm.run_history IS
    'FR-005. The runs of a pipeline, the latest first or last; those of a status, or with since <= started_at < until';

CREATE FUNCTION chm.latest_run(pipeline_id uuid, as_of timestamptz DEFAULT now())
RETURNS SETOF chm.runs
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT runs.*
    FROM chm.runs
    WHERE runs.pipeline_id = latest_run.pipeline_id
        AND COALESCE(runs.started_at, runs.created_at) <= as_of
    ORDER BY runs.started_at DESC NULLS LAST, runs.finished_at DESC NULLS LAST, runs.id DESC
    LIMIT 1
$$;
COMMENT ON FUNCTION chm.latest_run IS
    'FR-006. The run of a pipeline that started last, then finished last; no row when it never ran';

CREATE FUNCTION chm.client_summary(
    client_id uuid, since timestamptz DEFAULT 'epoch', until timestamptz DEFAULT now()
)
RETURNS TABLE (status chm.run_status, run_count bigint)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT statuses.status, COALESCE(sum(counted.runs), 0)::bigint
    FROM unnest(enum_range(NULL::chm.run_status)) AS statuses (status)
    LEFT JOIN chm.pipelines ON pipelines.client_id = client_summary.client_id
    -- Each status of each pipeline is a range of an index.
    CROSS JOIN LATERAL (
        SELECT count(*) AS runs
        FROM chm.runs
        WHERE runs.pipeline_id = pipelines.id
            AND runs.status = statuses.status
            AND runs.started_at >= since
            AND runs.started_at < until
    ) AS counted
    WHERE chm.require(since < until, 'since is before until')
    GROUP BY statuses.status
    ORDER BY statuses.status
$$;
COMMENT ON FUNCTION chm.client_summary IS
    'FR-007. The runs of a client that started in [since, until) by status, all five with zeros; runs without a start never count';

CREATE FUNCTION chm.client_latest(
    client_id uuid, since timestamptz DEFAULT 'epoch', until timestamptz DEFAULT now()
)
RETURNS TABLE (
    pipeline_id uuid,
    pipeline_name varchar,
    platform chm.platform,
    latest_status chm.run_status,
    latest_run_at timestamptz
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT pipelines.id, pipelines.name, pipelines.platform, latest.status, latest.started_at
    FROM chm.pipelines
    CROSS JOIN LATERAL (
        SELECT runs.status, runs.started_at
        FROM chm.runs
        WHERE runs.pipeline_id = pipelines.id
            AND runs.started_at >= since AND runs.started_at < until
        ORDER BY runs.started_at DESC NULLS LAST, runs.finished_at DESC NULLS LAST, runs.id DESC
        LIMIT 1
    ) AS latest
    WHERE pipelines.client_id = client_latest.client_id
        AND chm.require(since < until, 'since is before until')
    ORDER BY pipelines.name
$$;
COMMENT ON FUNCTION chm.client_latest IS
    'FR-007. The latest run of each pipeline of a client that started in [since, until)';
