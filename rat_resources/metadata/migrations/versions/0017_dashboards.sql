-- What is asked of runs, freshness and quality. What happened after as_of is not known yet, days are
-- UTC's, and the order is total.

CREATE FUNCTION rat.runs_per_day(
    as_of timestamptz DEFAULT now(), days integer DEFAULT 30
)
RETURNS TABLE (
    day date,
    runs bigint,
    published bigint,
    unchanged bigint,
    failed bigint,
    cancelled bigint,
    unfinished bigint,
    success_rate numeric
)
LANGUAGE sql STABLE AS $$
    WITH calendar AS (
        SELECT each::date AS day
        FROM generate_series(
            (as_of AT TIME ZONE 'UTC')::date - (days - 1),
            (as_of AT TIME ZONE 'UTC')::date,
            INTERVAL '1 day'
        ) AS each
    ),

    known AS (
        SELECT finished_at AS happened_at, status, runs.unchanged
        FROM rat.runs
        WHERE finished_at <= as_of
            AND finished_at >= date_trunc('day', as_of, 'UTC') - make_interval(days => days - 1)
        UNION ALL
        -- It has ended since.
        SELECT created_at, 'unfinished', false
        FROM rat.runs
        WHERE finished_at > as_of AND created_at <= as_of
        UNION ALL
        SELECT created_at, 'unfinished', false
        FROM rat.runs
        WHERE status IN ('pending', 'running') AND created_at <= as_of
    ),

    counted AS (
        SELECT
            (happened_at AT TIME ZONE 'UTC')::date AS day,
            count(*) AS runs,
            count(*) FILTER (WHERE status = 'success' AND NOT known.unchanged) AS published,
            count(*) FILTER (WHERE status = 'success' AND known.unchanged) AS unchanged,
            count(*) FILTER (WHERE status = 'failed') AS failed,
            count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
            count(*) FILTER (WHERE status = 'unfinished') AS unfinished
        FROM known
        GROUP BY 1
    )

    SELECT
        calendar.day,
        coalesce(counted.runs, 0),
        coalesce(counted.published, 0),
        coalesce(counted.unchanged, 0),
        coalesce(counted.failed, 0),
        coalesce(counted.cancelled, 0),
        coalesce(counted.unfinished, 0),
        round(
            100.0 * (counted.published + counted.unchanged)
            / nullif(counted.runs - counted.unfinished, 0),
            2
        )
    FROM calendar
    LEFT JOIN counted ON counted.day = calendar.day
    ORDER BY calendar.day
$$;

CREATE FUNCTION rat.slowest_pipelines(
    as_of timestamptz DEFAULT now(), days integer DEFAULT 30, top integer DEFAULT 20
)
RETURNS TABLE (
    namespace varchar,
    layer varchar,
    pipeline varchar,
    runs bigint,
    p50_seconds numeric,
    p95_seconds numeric,
    max_seconds numeric,
    total_seconds numeric
)
LANGUAGE sql STABLE AS $$
    WITH timed AS (
        SELECT
            pipeline_id,
            count(*) AS runs,
            percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY duration_ms) AS ms,
            max(duration_ms) AS longest,
            sum(duration_ms) AS total
        FROM rat.runs
        WHERE status = 'success'
            -- A look that found nothing new says nothing about the work.
            AND NOT unchanged
            AND finished_at > as_of - make_interval(days => days)
            AND finished_at <= as_of
        GROUP BY pipeline_id
    )

    SELECT
        pipelines.namespace,
        pipelines.layer,
        pipelines.name,
        timed.runs,
        round((ms[1] / 1000)::numeric, 3),
        round((ms[2] / 1000)::numeric, 3),
        round(timed.longest / 1000.0, 3),
        round(timed.total / 1000.0, 3)
    FROM timed
    JOIN rat.pipelines ON pipelines.id = timed.pipeline_id
    ORDER BY ms[2] DESC, timed.runs DESC, pipelines.namespace, pipelines.layer, pipelines.name, pipelines.id
    LIMIT top
$$;

CREATE FUNCTION rat.flakiest_pipelines(
    as_of timestamptz DEFAULT now(), days integer DEFAULT 30, top integer DEFAULT 20
)
RETURNS TABLE (
    namespace varchar,
    layer varchar,
    pipeline varchar,
    runs bigint,
    failures bigint,
    alternations bigint,
    failure_rate numeric,
    last_failure timestamptz
)
LANGUAGE sql STABLE AS $$
    WITH ended AS (
        SELECT
            pipeline_id,
            finished_at,
            status,
            lag(status) OVER (PARTITION BY pipeline_id ORDER BY finished_at, id) AS before
        FROM rat.runs
        WHERE status IN ('success', 'failed')
            AND finished_at > as_of - make_interval(days => days)
            AND finished_at <= as_of
            -- Few have failed at all, and only theirs need to be sorted.
            AND pipeline_id IN (
                SELECT pipeline_id
                FROM rat.runs
                WHERE status = 'failed'
                    AND finished_at > as_of - make_interval(days => days)
                    AND finished_at <= as_of
            )
    ),

    counted AS (
        SELECT
            pipeline_id,
            count(*) AS runs,
            count(*) FILTER (WHERE status = 'failed') AS failures,
            count(*) FILTER (WHERE status <> before) AS alternations,
            max(finished_at) FILTER (WHERE status = 'failed') AS last_failure
        FROM ended
        GROUP BY pipeline_id
        HAVING count(*) FILTER (WHERE status = 'failed') > 0
    )

    SELECT
        pipelines.namespace,
        pipelines.layer,
        pipelines.name,
        counted.runs,
        counted.failures,
        counted.alternations,
        round(100.0 * counted.failures / counted.runs, 2),
        counted.last_failure
    FROM counted
    JOIN rat.pipelines ON pipelines.id = counted.pipeline_id
    ORDER BY
        counted.alternations DESC,
        counted.failures DESC,
        counted.runs,
        pipelines.namespace,
        pipelines.layer,
        pipelines.name,
        pipelines.id
    LIMIT top
$$;

CREATE FUNCTION rat.recovery_times(
    as_of timestamptz DEFAULT now(), days integer DEFAULT 30, top integer DEFAULT 20
)
RETURNS TABLE (
    namespace varchar,
    layer varchar,
    pipeline varchar,
    failures bigint,
    recoveries bigint,
    mttr_seconds numeric,
    failing_since timestamptz
)
LANGUAGE sql STABLE AS $$
    WITH ended AS (
        SELECT
            pipeline_id,
            finished_at,
            status,
            -- A success closes the streak of the failures before it.
            count(*) FILTER (WHERE status = 'success') OVER (
                PARTITION BY pipeline_id
                ORDER BY finished_at, id
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) AS streak
        FROM rat.runs
        WHERE status IN ('success', 'failed')
            AND finished_at > as_of - make_interval(days => days)
            AND finished_at <= as_of
            -- Few have failed at all, and only theirs need to be sorted.
            AND pipeline_id IN (
                SELECT pipeline_id
                FROM rat.runs
                WHERE status = 'failed'
                    AND finished_at > as_of - make_interval(days => days)
                    AND finished_at <= as_of
            )
    ),

    streaks AS (
        SELECT
            pipeline_id,
            count(*) FILTER (WHERE status = 'failed') AS failures,
            min(finished_at) FILTER (WHERE status = 'failed') AS failed_at,
            min(finished_at) FILTER (WHERE status = 'success') AS recovered_at
        FROM ended
        GROUP BY pipeline_id, streak
        HAVING count(*) FILTER (WHERE status = 'failed') > 0
    ),

    told AS (
        SELECT
            pipeline_id,
            sum(failures)::bigint AS failures,
            count(recovered_at) AS recoveries,
            round(avg(extract(epoch FROM recovered_at - failed_at)), 3) AS mttr_seconds,
            max(failed_at) FILTER (WHERE recovered_at IS NULL) AS failing_since
        FROM streaks
        GROUP BY pipeline_id
    )

    SELECT
        pipelines.namespace,
        pipelines.layer,
        pipelines.name,
        told.failures,
        told.recoveries,
        told.mttr_seconds,
        told.failing_since
    FROM told
    JOIN rat.pipelines ON pipelines.id = told.pipeline_id
    ORDER BY
        told.mttr_seconds DESC NULLS LAST,
        told.failing_since,
        pipelines.namespace,
        pipelines.layer,
        pipelines.name,
        pipelines.id
    LIMIT top
$$;

CREATE FUNCTION rat.freshness(as_of timestamptz DEFAULT now())
RETURNS TABLE (
    namespace varchar,
    layer varchar,
    pipeline varchar,
    state text,
    last_publication timestamptz,
    age interval,
    unchanged_looks bigint,
    last_success timestamptz,
    rhythm interval,
    lateness numeric
)
LANGUAGE sql STABLE AS $$
    WITH told AS (
        SELECT
            pipelines.id,
            pipelines.namespace,
            pipelines.layer,
            pipelines.name,
            publication.finished_at AS last_publication,
            looks.unchanged AS unchanged_looks,
            pace.last_success,
            pace.rhythm,
            round(
                extract(epoch FROM as_of - pace.last_success)
                / nullif(extract(epoch FROM pace.rhythm), 0),
                2
            ) AS lateness
        FROM rat.pipelines
        LEFT JOIN LATERAL (
            SELECT finished_at
            FROM rat.runs
            WHERE pipeline_id = pipelines.id
                AND status = 'success'
                AND NOT unchanged
                AND finished_at <= as_of
            ORDER BY finished_at DESC
            LIMIT 1
        ) AS publication ON true
        CROSS JOIN LATERAL (
            SELECT count(*) AS unchanged
            FROM rat.runs
            WHERE pipeline_id = pipelines.id
                AND status = 'success'
                AND unchanged
                AND finished_at <= as_of
                AND finished_at > coalesce(publication.finished_at, '-infinity')
        ) AS looks
        CROSS JOIN LATERAL (
            SELECT
                max(finished_at) AS last_success,
                -- Two pauses are no rhythm yet.
                CASE WHEN count(*) > 3 THEN
                    percentile_cont(0.5) WITHIN GROUP (ORDER BY pause)
                END AS rhythm
            FROM (
                SELECT
                    finished_at,
                    finished_at - lag(finished_at) OVER (ORDER BY finished_at) AS pause
                FROM (
                    SELECT finished_at
                    FROM rat.runs
                    WHERE pipeline_id = pipelines.id
                        AND status = 'success'
                        AND finished_at <= as_of
                    ORDER BY finished_at DESC
                    LIMIT 21
                ) AS newest
            ) AS paced
        ) AS pace
        WHERE pipelines.created_at <= as_of
            AND (pipelines.deleted_at IS NULL OR pipelines.deleted_at > as_of)
    ),

    judged AS (
        SELECT
            *,
            CASE
                WHEN last_success IS NULL THEN 'never'
                -- Who runs a pipeline by hand a few times makes it no late one.
                WHEN lateness > 2 AND as_of - last_success > INTERVAL '1 hour' THEN 'late'
                ELSE 'fresh'
            END AS state
        FROM told
    )

    SELECT
        namespace,
        layer,
        name,
        state,
        last_publication,
        as_of - last_publication,
        unchanged_looks,
        last_success,
        rhythm,
        lateness
    FROM judged
    ORDER BY
        array_position(ARRAY['late', 'never', 'fresh'], state),
        lateness DESC NULLS LAST,
        last_success,
        namespace,
        layer,
        name,
        id
$$;

CREATE FUNCTION rat.rows_per_table(
    as_of timestamptz DEFAULT now(), days integer DEFAULT 90, top integer DEFAULT 200
)
RETURNS TABLE (
    namespace varchar,
    layer varchar,
    "table" varchar,
    finished_at timestamptz,
    rows_total bigint
)
LANGUAGE sql STABLE AS $$
    WITH largest AS (
        SELECT pipelines.*
        FROM rat.pipelines
        CROSS JOIN LATERAL (
            SELECT rows_total
            FROM rat.runs
            WHERE pipeline_id = pipelines.id
                AND status = 'success'
                -- A view has no snapshot, and no rows of its own.
                AND snapshot_id IS NOT NULL
                AND finished_at <= as_of
            ORDER BY finished_at DESC
            LIMIT 1
        ) AS newest
        WHERE pipelines.deleted_at IS NULL OR pipelines.deleted_at > as_of
        ORDER BY newest.rows_total DESC NULLS LAST, pipelines.id
        LIMIT top
    )

    SELECT largest.namespace, largest.layer, largest.name, told.finished_at, told.rows_total
    FROM largest
    CROSS JOIN LATERAL (
        -- What held when the window began, however old it was.
        (
            SELECT id, finished_at, rows_total
            FROM rat.runs
            WHERE pipeline_id = largest.id
                AND status = 'success'
                AND snapshot_id IS NOT NULL
                AND finished_at <= as_of - make_interval(days => days)
            ORDER BY finished_at DESC
            LIMIT 1
        )
        UNION ALL
        SELECT id, finished_at, rows_total
        FROM rat.runs
        WHERE pipeline_id = largest.id
            AND status = 'success'
            AND snapshot_id IS NOT NULL
            AND finished_at > as_of - make_interval(days => days)
            AND finished_at <= as_of
    ) AS told
    ORDER BY largest.namespace, largest.layer, largest.name, told.finished_at, told.id
$$;

-- What each test said on each day, in no order: what the questions about quality are made of.
CREATE FUNCTION rat.test_results(
    as_of timestamptz DEFAULT now(), days integer DEFAULT 30
)
RETURNS TABLE (
    day date,
    test_id uuid,
    passed bigint,
    failed bigint,
    warned bigint,
    error bigint
)
LANGUAGE sql STABLE AS $$
    SELECT
        (ran_at AT TIME ZONE 'UTC')::date,
        test_id,
        count(*) FILTER (WHERE status = 'passed'),
        count(*) FILTER (WHERE status = 'failed'),
        count(*) FILTER (WHERE status = 'warned'),
        count(*) FILTER (WHERE status = 'error')
    FROM rat.quality_results
    WHERE ran_at <= as_of
        AND ran_at >= date_trunc('day', as_of, 'UTC') - make_interval(days => days - 1)
    GROUP BY 1, 2
$$;

CREATE FUNCTION rat.quality_history(
    as_of timestamptz DEFAULT now(), days integer DEFAULT 30
)
RETURNS TABLE (
    day date,
    namespace varchar,
    layer varchar,
    pipeline varchar,
    test varchar,
    severity varchar,
    passed bigint,
    failed bigint,
    warned bigint,
    error bigint
)
LANGUAGE sql STABLE AS $$
    SELECT
        counted.day,
        pipelines.namespace,
        pipelines.layer,
        pipelines.name,
        tests.name,
        tests.severity,
        counted.passed,
        counted.failed,
        counted.warned,
        counted.error
    FROM rat.test_results(as_of, days) AS counted
    JOIN rat.quality_tests AS tests ON tests.id = counted.test_id
    JOIN rat.pipelines ON pipelines.id = tests.pipeline_id
    ORDER BY counted.day, pipelines.namespace, pipelines.layer, pipelines.name, tests.name, tests.id
$$;

CREATE FUNCTION rat.daily_pass_rate(
    as_of timestamptz DEFAULT now(), days integer DEFAULT 30
)
RETURNS TABLE (
    day date,
    namespace varchar,
    results bigint,
    passed bigint,
    failed bigint,
    warned bigint,
    error bigint,
    pass_rate numeric
)
LANGUAGE sql STABLE AS $$
    SELECT
        day,
        namespace,
        sum(passed + failed + warned + error)::bigint,
        sum(passed)::bigint,
        sum(failed)::bigint,
        sum(warned)::bigint,
        sum(error)::bigint,
        round(100.0 * sum(passed) / sum(passed + failed + warned + error), 2)
    FROM rat.test_results(as_of, days) AS counted
    JOIN rat.quality_tests AS tests ON tests.id = counted.test_id
    JOIN rat.pipelines ON pipelines.id = tests.pipeline_id
    GROUP BY day, namespace
    ORDER BY day, namespace
$$;

CREATE FUNCTION rat.pass_rate(
    as_of timestamptz DEFAULT now(), days integer DEFAULT 30
)
RETURNS TABLE (
    namespace varchar,
    layer varchar,
    pipeline varchar,
    results bigint,
    passed bigint,
    failed bigint,
    warned bigint,
    error bigint,
    pass_rate numeric
)
LANGUAGE sql STABLE AS $$
    SELECT
        pipelines.namespace,
        pipelines.layer,
        pipelines.name,
        sum(passed + failed + warned + error)::bigint,
        sum(passed)::bigint,
        sum(failed)::bigint,
        sum(warned)::bigint,
        sum(error)::bigint,
        round(100.0 * sum(passed) / sum(passed + failed + warned + error), 2) AS pass_rate
    FROM rat.test_results(as_of, days) AS counted
    JOIN rat.quality_tests AS tests ON tests.id = counted.test_id
    JOIN rat.pipelines ON pipelines.id = tests.pipeline_id
    GROUP BY pipelines.namespace, pipelines.layer, pipelines.name
    ORDER BY pass_rate, pipelines.namespace, pipelines.layer, pipelines.name
$$;

CREATE FUNCTION rat.pass_rate_of_namespaces(
    as_of timestamptz DEFAULT now(), days integer DEFAULT 30
)
RETURNS TABLE (
    namespace varchar,
    results bigint,
    passed bigint,
    failed bigint,
    warned bigint,
    error bigint,
    pass_rate numeric
)
LANGUAGE sql STABLE AS $$
    SELECT
        namespace,
        sum(passed + failed + warned + error)::bigint,
        sum(passed)::bigint,
        sum(failed)::bigint,
        sum(warned)::bigint,
        sum(error)::bigint,
        round(100.0 * sum(passed) / sum(passed + failed + warned + error), 2) AS pass_rate
    FROM rat.test_results(as_of, days) AS counted
    JOIN rat.quality_tests AS tests ON tests.id = counted.test_id
    JOIN rat.pipelines ON pipelines.id = tests.pipeline_id
    GROUP BY namespace
    ORDER BY pass_rate, namespace
$$;

CREATE FUNCTION rat.failing_tests(as_of timestamptz DEFAULT now())
RETURNS TABLE (
    namespace varchar,
    layer varchar,
    pipeline varchar,
    test varchar,
    severity varchar,
    status varchar,
    offenders numeric,
    since timestamptz,
    ran_at timestamptz,
    run_id uuid,
    remediation text
)
LANGUAGE sql STABLE AS $$
    SELECT
        pipelines.namespace,
        pipelines.layer,
        pipelines.name,
        tests.name,
        tests.severity,
        newest.status,
        newest.value,
        streak.since,
        newest.ran_at,
        newest.run_id,
        tests.remediation
    FROM rat.quality_tests AS tests
    JOIN rat.pipelines ON pipelines.id = tests.pipeline_id
    CROSS JOIN LATERAL (
        SELECT status, value, ran_at, run_id
        FROM rat.quality_results
        WHERE test_id = tests.id AND ran_at <= as_of
        ORDER BY ran_at DESC, id DESC
        LIMIT 1
    ) AS newest
    CROSS JOIN LATERAL (
        SELECT min(ran_at) AS since
        FROM rat.quality_results
        WHERE test_id = tests.id
            AND ran_at <= newest.ran_at
            AND ran_at > coalesce(
                (
                    SELECT max(ran_at)
                    FROM rat.quality_results
                    WHERE test_id = tests.id AND ran_at <= as_of AND status = 'passed'
                ),
                '-infinity'
            )
    ) AS streak
    WHERE newest.status <> 'passed'
        AND tests.active
        AND (pipelines.deleted_at IS NULL OR pipelines.deleted_at > as_of)
    ORDER BY
        array_position(ARRAY['failed', 'error', 'warned'], newest.status::text),
        streak.since,
        pipelines.namespace,
        pipelines.layer,
        pipelines.name,
        tests.name,
        tests.id
$$;
