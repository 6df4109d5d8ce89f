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
    WITH unfinished AS (
        SELECT (created_at AT TIME ZONE 'UTC')::date AS day, count(*) AS runs
        FROM (
            -- It has ended since.
            SELECT created_at
            FROM rat.runs
            WHERE finished_at > as_of AND created_at <= as_of
            UNION ALL
            SELECT created_at
            FROM rat.runs
            WHERE status IN ('pending', 'running') AND created_at <= as_of
        ) AS each
        GROUP BY 1
    )

    SELECT
        calendar.starts_at::date,
        ended.runs + coalesce(unfinished.runs, 0),
        ended.published,
        ended.unchanged,
        ended.failed,
        ended.cancelled,
        coalesce(unfinished.runs, 0),
        round(100.0 * (ended.published + ended.unchanged) / nullif(ended.runs, 0), 2)
    FROM generate_series(
        date_trunc('day', as_of AT TIME ZONE 'UTC') - make_interval(days => days - 1),
        date_trunc('day', as_of AT TIME ZONE 'UTC'),
        INTERVAL '1 day'
    ) AS calendar (starts_at)
    -- Day by day: which day it was, need not be computed of every run.
    CROSS JOIN LATERAL (
        SELECT
            count(*) AS runs,
            count(*) FILTER (WHERE status = 'success' AND NOT runs.unchanged) AS published,
            count(*) FILTER (WHERE status = 'success' AND runs.unchanged) AS unchanged,
            count(*) FILTER (WHERE status = 'failed') AS failed,
            count(*) FILTER (WHERE status = 'cancelled') AS cancelled
        FROM rat.runs
        WHERE finished_at >= calendar.starts_at AT TIME ZONE 'UTC'
            AND finished_at < (calendar.starts_at + INTERVAL '1 day') AT TIME ZONE 'UTC'
            AND finished_at <= as_of
    ) AS ended
    LEFT JOIN unfinished ON unfinished.day = calendar.starts_at::date
    ORDER BY 1
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
LANGUAGE sql STABLE
-- The times of a month of runs are sorted in memory.
SET work_mem = '64MB' AS $$
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

-- Failures in a row, in no order: from the first to the success that ended them, if one has.
CREATE FUNCTION rat.failure_streaks(
    as_of timestamptz DEFAULT now(), days integer DEFAULT 30
)
RETURNS TABLE (
    pipeline_id uuid,
    failures bigint,
    failed_at timestamptz,
    last_failed_at timestamptz,
    recovered_at timestamptz
)
LANGUAGE sql STABLE AS $$
    SELECT
        failed.pipeline_id,
        count(*),
        min(failed.finished_at),
        max(failed.finished_at),
        success.finished_at
    FROM rat.runs AS failed
    -- Few fail, so the success after each is looked for instead of sorting all runs.
    LEFT JOIN LATERAL (
        SELECT runs.finished_at
        FROM rat.runs
        WHERE runs.pipeline_id = failed.pipeline_id
            AND runs.status = 'success'
            AND runs.finished_at > failed.finished_at
            AND runs.finished_at <= as_of
        ORDER BY runs.finished_at
        LIMIT 1
    ) AS success ON true
    WHERE failed.status = 'failed'
        AND failed.finished_at > as_of - make_interval(days => days)
        AND failed.finished_at <= as_of
    GROUP BY failed.pipeline_id, success.finished_at
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
    WITH counted AS (
        SELECT
            pipeline_id,
            sum(streaks.failures)::bigint AS failures,
            -- Into each streak from a success, and out of it.
            count(streaks.recovered_at) + count(*) - 1 + EXISTS (
                SELECT
                FROM rat.runs
                WHERE runs.pipeline_id = streaks.pipeline_id
                    AND runs.status = 'success'
                    AND runs.finished_at > as_of - make_interval(days => days)
                    AND runs.finished_at < min(streaks.failed_at)
            )::integer AS alternations,
            max(streaks.last_failed_at) AS last_failure
        FROM rat.failure_streaks(as_of, days) AS streaks
        GROUP BY pipeline_id
    ),

    ended AS (
        SELECT pipeline_id, count(*) AS runs
        FROM rat.runs
        WHERE status IN ('success', 'failed')
            AND finished_at > as_of - make_interval(days => days)
            AND finished_at <= as_of
        GROUP BY pipeline_id
    )

    SELECT
        pipelines.namespace,
        pipelines.layer,
        pipelines.name,
        ended.runs,
        counted.failures,
        counted.alternations,
        round(100.0 * counted.failures / ended.runs, 2),
        counted.last_failure
    FROM counted
    JOIN ended ON ended.pipeline_id = counted.pipeline_id
    JOIN rat.pipelines ON pipelines.id = counted.pipeline_id
    ORDER BY
        counted.alternations DESC,
        counted.failures DESC,
        ended.runs,
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
    WITH told AS (
        SELECT
            pipeline_id,
            sum(failures)::bigint AS failures,
            count(recovered_at) AS recoveries,
            round(avg(extract(epoch FROM recovered_at - failed_at)), 3) AS mttr_seconds,
            max(failed_at) FILTER (WHERE recovered_at IS NULL) AS failing_since
        FROM rat.failure_streaks(as_of, days)
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
            coalesce(newest.ends[newest.place], older.finished_at) AS last_publication,
            coalesce(newest.place - 1, older.unchanged) AS unchanged_looks,
            newest.ends[1] AS last_success,
            newest.rhythm,
            round(
                extract(epoch FROM as_of - newest.ends[1])
                / nullif(extract(epoch FROM newest.rhythm), 0),
                2
            ) AS lateness
        FROM rat.pipelines
        CROSS JOIN LATERAL (
            SELECT
                array_agg(finished_at) AS ends,
                -- Of the latest that published something.
                array_position(array_agg(unchanged), false) AS place,
                -- Two pauses are no rhythm yet.
                CASE WHEN count(*) > 3 THEN
                    percentile_cont(0.5) WITHIN GROUP (ORDER BY pause)
                END AS rhythm
            FROM (
                SELECT
                    finished_at,
                    unchanged,
                    finished_at - lead(finished_at) OVER (ORDER BY finished_at DESC) AS pause
                FROM (
                    SELECT finished_at, unchanged
                    FROM rat.runs
                    WHERE pipeline_id = pipelines.id
                        AND status = 'success'
                        AND finished_at <= as_of
                    ORDER BY finished_at DESC
                    LIMIT 21
                ) AS successes
            ) AS paced
        ) AS newest
        LEFT JOIN LATERAL (
            SELECT
                max(publication.finished_at) AS finished_at,
                (
                    SELECT count(*)
                    FROM rat.runs
                    WHERE pipeline_id = pipelines.id
                        AND status = 'success'
                        AND unchanged
                        AND finished_at <= as_of
                        AND finished_at > coalesce(max(publication.finished_at), '-infinity')
                ) AS unchanged
            FROM (
                SELECT finished_at
                FROM rat.runs
                WHERE pipeline_id = pipelines.id
                    AND status = 'success'
                    AND NOT unchanged
                    AND finished_at <= as_of
                ORDER BY finished_at DESC
                LIMIT 1
            ) AS publication
        ) AS older ON newest.place IS NULL
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
            SELECT finished_at, rows_total
            FROM rat.runs
            WHERE pipeline_id = largest.id
                AND status = 'success'
                AND snapshot_id IS NOT NULL
                AND finished_at <= as_of - make_interval(days => days)
            ORDER BY finished_at DESC
            LIMIT 1
        )
        UNION ALL
        SELECT finished_at, rows_total
        FROM rat.runs
        WHERE pipeline_id = largest.id
            AND status = 'success'
            AND snapshot_id IS NOT NULL
            AND finished_at > as_of - make_interval(days => days)
            AND finished_at <= as_of
    ) AS told
    ORDER BY largest.namespace, largest.layer, largest.name, told.finished_at, told.rows_total
$$;

-- What each test said, in no order: what the questions about quality are made of.
CREATE FUNCTION rat.test_results(
    as_of timestamptz DEFAULT now(), days integer DEFAULT 30
)
RETURNS TABLE (
    test_id uuid,
    passed bigint,
    failed bigint,
    warned bigint,
    error bigint
)
LANGUAGE sql STABLE AS $$
    SELECT
        test_id,
        count(*) FILTER (WHERE status = 'passed'),
        count(*) FILTER (WHERE status = 'failed'),
        count(*) FILTER (WHERE status = 'warned'),
        count(*) FILTER (WHERE status = 'error')
    FROM rat.quality_results
    WHERE ran_at <= as_of
        AND ran_at >= date_trunc('day', as_of, 'UTC') - make_interval(days => days - 1)
    GROUP BY test_id
$$;

-- Of the tests that found fault most often, those that never did after them by name.
CREATE FUNCTION rat.quality_history(
    as_of timestamptz DEFAULT now(),
    days integer DEFAULT 30,
    top integer DEFAULT 100,
    within varchar DEFAULT NULL
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
    WITH faults AS (
        SELECT
            test_id,
            count(*) FILTER (WHERE status IN ('failed', 'error')) AS failed,
            count(*) AS found
        FROM rat.quality_results
        WHERE status <> 'passed'
            AND ran_at <= as_of
            AND ran_at >= date_trunc('day', as_of, 'UTC') - make_interval(days => days - 1)
        GROUP BY test_id
    ),

    chosen AS (
        SELECT
            tests.id,
            pipelines.namespace,
            pipelines.layer,
            pipelines.name AS pipeline,
            tests.name,
            tests.severity
        FROM rat.quality_tests AS tests
        JOIN rat.pipelines ON pipelines.id = tests.pipeline_id
        LEFT JOIN faults ON faults.test_id = tests.id
        WHERE (within IS NULL OR pipelines.namespace = within)
            AND EXISTS (
                SELECT
                FROM rat.quality_results
                WHERE test_id = tests.id
                    AND ran_at <= as_of
                    AND ran_at >= date_trunc('day', as_of, 'UTC') - make_interval(days => days - 1)
            )
        ORDER BY
            coalesce(faults.failed, 0) DESC,
            coalesce(faults.found, 0) DESC,
            pipelines.namespace,
            pipelines.layer,
            pipelines.name,
            tests.name,
            tests.id
        LIMIT top
    )

    SELECT
        counted.day,
        chosen.namespace,
        chosen.layer,
        chosen.pipeline,
        chosen.name,
        chosen.severity,
        counted.passed,
        counted.failed,
        counted.warned,
        counted.error
    FROM chosen
    CROSS JOIN LATERAL (
        SELECT
            (ran_at AT TIME ZONE 'UTC')::date AS day,
            count(*) FILTER (WHERE status = 'passed') AS passed,
            count(*) FILTER (WHERE status = 'failed') AS failed,
            count(*) FILTER (WHERE status = 'warned') AS warned,
            count(*) FILTER (WHERE status = 'error') AS error
        FROM rat.quality_results
        WHERE test_id = chosen.id
            AND ran_at <= as_of
            AND ran_at >= date_trunc('day', as_of, 'UTC') - make_interval(days => days - 1)
        GROUP BY 1
    ) AS counted
    ORDER BY
        counted.day, chosen.namespace, chosen.layer, chosen.pipeline, chosen.name, chosen.id
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
        (results.ran_at AT TIME ZONE 'UTC')::date,
        pipelines.namespace,
        count(*),
        count(*) FILTER (WHERE results.status = 'passed'),
        count(*) FILTER (WHERE results.status = 'failed'),
        count(*) FILTER (WHERE results.status = 'warned'),
        count(*) FILTER (WHERE results.status = 'error'),
        round(100.0 * count(*) FILTER (WHERE results.status = 'passed') / count(*), 2)
    FROM rat.quality_results AS results
    JOIN rat.quality_tests AS tests ON tests.id = results.test_id
    JOIN rat.pipelines ON pipelines.id = tests.pipeline_id
    WHERE results.ran_at <= as_of
        AND results.ran_at >= date_trunc('day', as_of, 'UTC') - make_interval(days => days - 1)
    GROUP BY 1, 2
    ORDER BY 1, 2
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
        result.value,
        streak.since,
        newest.ran_at,
        result.run_id,
        tests.remediation
    FROM rat.quality_tests AS tests
    JOIN rat.pipelines ON pipelines.id = tests.pipeline_id
    CROSS JOIN LATERAL (
        SELECT id, status, ran_at
        FROM rat.quality_results
        WHERE test_id = tests.id AND ran_at <= as_of
        ORDER BY ran_at DESC, id DESC
        LIMIT 1
    ) AS newest
    JOIN rat.quality_results AS result ON result.id = newest.id
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
