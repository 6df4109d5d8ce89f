-- The latest run and the latest success of each pipeline, kept by triggers on chm.runs: asking it of
-- 10,000 pipelines, the index would be searched 10,000 times. Whoever asks as of a moment at which the
-- kept run was not there yet searches the index. Of successes that started at once, the one that
-- happened last is the latest, whichever it is.

CREATE TABLE chm.latest_runs (
    pipeline_id UUID NOT NULL,
    succeeded BOOLEAN NOT NULL,
    run_id UUID NOT NULL,
    status chm.run_status NOT NULL,
    started_at TIMESTAMPTZ,
    finished_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL,
    event_time TIMESTAMPTZ NOT NULL,
    CONSTRAINT pk_latest_runs PRIMARY KEY (pipeline_id, succeeded)
) WITH (fillfactor = 50);

-- The definition: for those pipelines, or for all.
CREATE FUNCTION chm.find_latest(pipelines uuid[] DEFAULT NULL)
RETURNS SETOF chm.latest_runs
LANGUAGE sql STABLE AS $$
    SELECT pipeline.id, false, latest.*
    FROM chm.pipelines AS pipeline
    CROSS JOIN LATERAL (
        SELECT id, status, started_at, finished_at, created_at, event_time
        FROM chm.runs
        WHERE pipeline_id = pipeline.id
        ORDER BY started_at DESC NULLS LAST, finished_at DESC NULLS LAST, id DESC
        LIMIT 1
    ) AS latest
    WHERE pipelines IS NULL OR pipeline.id = ANY(pipelines)
    UNION ALL
    SELECT pipeline.id, true, latest.*
    FROM chm.pipelines AS pipeline
    CROSS JOIN LATERAL (
        SELECT id, status, started_at, finished_at, created_at, event_time
        FROM chm.runs
        WHERE pipeline_id = pipeline.id AND status = 'success'
        ORDER BY started_at DESC NULLS LAST, event_time DESC
        LIMIT 1
    ) AS latest
    WHERE pipelines IS NULL OR pipeline.id = ANY(pipelines)
    ORDER BY 1, 2
$$;

-- Whether what is told may take the place of what is kept.
CREATE FUNCTION chm.is_later(told chm.latest_runs, kept chm.latest_runs) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT (
        COALESCE(told.started_at, '-infinity'),
        COALESCE(CASE WHEN told.succeeded THEN told.event_time ELSE told.finished_at END, '-infinity'),
        told.run_id
    ) >= (
        COALESCE(kept.started_at, '-infinity'),
        COALESCE(CASE WHEN kept.succeeded THEN kept.event_time ELSE kept.finished_at END, '-infinity'),
        kept.run_id
    ) AND told IS DISTINCT FROM kept
$$;

-- Find them anew, of those pipelines or of all.
CREATE FUNCTION chm.refind_latest(pipelines uuid[] DEFAULT NULL) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    -- Whoever writes there now is waited for, and what they wrote is seen by the next statement.
    PERFORM FROM chm.latest_runs
    WHERE pipelines IS NULL OR pipeline_id = ANY(pipelines)
    ORDER BY pipeline_id, succeeded
    FOR UPDATE;
    DELETE FROM chm.latest_runs AS kept
    WHERE (pipelines IS NULL OR kept.pipeline_id = ANY(pipelines))
        AND NOT EXISTS (
            SELECT FROM chm.runs
            WHERE runs.pipeline_id = kept.pipeline_id
                AND (NOT kept.succeeded OR runs.status = 'success')
        );
    UPDATE chm.latest_runs AS kept
    SET run_id = newest.run_id,
        status = newest.status,
        started_at = newest.started_at,
        finished_at = newest.finished_at,
        created_at = newest.created_at,
        event_time = newest.event_time
    FROM chm.find_latest(pipelines) AS newest
    WHERE kept.pipeline_id = newest.pipeline_id
        AND kept.succeeded = newest.succeeded
        AND kept IS DISTINCT FROM newest;
    -- What was not there to be locked, somebody else may write at this moment.
    INSERT INTO chm.latest_runs AS kept
    SELECT * FROM chm.find_latest(pipelines)
    ON CONFLICT (pipeline_id, succeeded) DO UPDATE SET
        run_id = excluded.run_id,
        status = excluded.status,
        started_at = excluded.started_at,
        finished_at = excluded.finished_at,
        created_at = excluded.created_at,
        event_time = excluded.event_time
    WHERE chm.is_later(excluded, kept);
END $$;

CREATE FUNCTION chm.keep_latest() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    stale uuid[];
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM chm.latest_runs;
        RETURN NULL;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        -- In the order of the key: two that write runs of the same pipelines wait for each other.
        INSERT INTO chm.latest_runs AS kept
        SELECT DISTINCT ON (pipeline_id, succeeded)
            pipeline_id, succeeded, id, status, started_at, finished_at, created_at, event_time
        FROM new_runs
        CROSS JOIN (VALUES (false), (true)) AS each (succeeded)
        WHERE NOT succeeded OR status = 'success'
        ORDER BY
            pipeline_id,
            succeeded,
            started_at DESC NULLS LAST,
            CASE WHEN succeeded THEN event_time ELSE finished_at END DESC NULLS LAST,
            id DESC
        ON CONFLICT (pipeline_id, succeeded) DO UPDATE SET
            run_id = excluded.run_id,
            status = excluded.status,
            started_at = excluded.started_at,
            finished_at = excluded.finished_at,
            created_at = excluded.created_at,
            event_time = excluded.event_time
        WHERE chm.is_later(excluded, kept);
    END IF;
    IF TG_OP <> 'INSERT' THEN
        -- Runs that were kept, and are not what was kept any more.
        IF TG_OP = 'DELETE' THEN
            SELECT array_agg(DISTINCT pipeline_id) INTO stale FROM old_runs;
        ELSE
            SELECT array_agg(DISTINCT old_runs.pipeline_id) INTO stale
            FROM old_runs
            LEFT JOIN new_runs USING (id)
            JOIN chm.latest_runs AS kept ON kept.run_id = old_runs.id
            WHERE (
                kept.pipeline_id, kept.status, kept.started_at, kept.finished_at, kept.created_at
            ) IS DISTINCT FROM (
                new_runs.pipeline_id, new_runs.status, new_runs.started_at, new_runs.finished_at,
                new_runs.created_at
            );
        END IF;
        IF stale IS NOT NULL THEN
            PERFORM chm.refind_latest(stale);
        END IF;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER latest_of_inserted AFTER INSERT ON chm.runs
REFERENCING NEW TABLE AS new_runs FOR EACH STATEMENT EXECUTE FUNCTION chm.keep_latest();

CREATE TRIGGER latest_of_updated AFTER UPDATE ON chm.runs
REFERENCING OLD TABLE AS old_runs NEW TABLE AS new_runs FOR EACH STATEMENT
EXECUTE FUNCTION chm.keep_latest();

CREATE TRIGGER latest_of_deleted AFTER DELETE ON chm.runs
REFERENCING OLD TABLE AS old_runs FOR EACH STATEMENT EXECUTE FUNCTION chm.keep_latest();

CREATE TRIGGER latest_of_truncated AFTER TRUNCATE ON chm.runs
FOR EACH STATEMENT EXECUTE FUNCTION chm.keep_latest();
