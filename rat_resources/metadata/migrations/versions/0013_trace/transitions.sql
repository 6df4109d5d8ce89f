-- Which transitions a state allows, refused at the table, whoever writes.
-- A row may be inserted in any state: a mirror that is filled anew begins with what is.

-- Trigger arguments: the column, then every allowed transition as 'from>to'.
CREATE FUNCTION rat.allow_transitions() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    was text;
    becomes text;
BEGIN
    IF TG_ARGV[0] = 'state' THEN
        was := OLD.state;
        becomes := NEW.state;
    ELSE
        was := OLD.status;
        becomes := NEW.status;
    END IF;
    -- TG_ARGV counts from 0, and 0 is the column.
    IF was || '>' || becomes <> ALL (TG_ARGV) THEN
        RAISE EXCEPTION '%.%: % cannot become %', TG_TABLE_SCHEMA, TG_TABLE_NAME, was, becomes
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER ck_runs_transition BEFORE UPDATE OF status ON rat.runs
    FOR EACH ROW WHEN (OLD.status <> NEW.status)
    EXECUTE FUNCTION rat.allow_transitions('status',
        'pending>running', 'pending>failed', 'pending>cancelled',
        'running>success', 'running>failed', 'running>cancelled');

CREATE TRIGGER ck_publications_transition BEFORE UPDATE OF state ON rat.publications
    FOR EACH ROW WHEN (OLD.state <> NEW.state)
    EXECUTE FUNCTION rat.allow_transitions('state',
        'intended>published', 'intended>undone', 'published>closed');

CREATE TRIGGER ck_dag_versions_transition BEFORE UPDATE OF state ON trace.dag_versions
    FOR EACH ROW WHEN (OLD.state <> NEW.state)
    EXECUTE FUNCTION rat.allow_transitions('state',
        'staged>ready', 'staged>retired', 'ready>serving', 'ready>retired',
        'serving>retired', 'retired>serving');

CREATE TRIGGER ck_query_results_transition BEFORE UPDATE OF status ON trace.query_results
    FOR EACH ROW WHEN (OLD.status <> NEW.status)
    EXECUTE FUNCTION rat.allow_transitions('status',
        'Queued>Running', 'Queued>Failed', 'Running>Succeeded', 'Running>Failed');

-- What an administrator does on purpose: SET LOCAL rat.retry = 'on' tries a final failure again.
CREATE FUNCTION trace.is_admin_retry() RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT coalesce(current_setting('rat.retry', true), '') = 'on'
$$;

CREATE TRIGGER ck_alert_deliveries_transition BEFORE UPDATE OF status ON trace.alert_deliveries
    FOR EACH ROW WHEN (
        OLD.status <> NEW.status
        AND NOT (OLD.status = 'failed' AND NEW.status = 'pending' AND trace.is_admin_retry())
    )
    EXECUTE FUNCTION rat.allow_transitions('status',
        'pending>sending', 'pending>failed', 'sending>delivered', 'sending>retrying',
        'sending>failed', 'retrying>sending', 'retrying>failed');

CREATE TRIGGER ck_tasks_transition BEFORE UPDATE OF status ON trace.tasks
    FOR EACH ROW WHEN (
        OLD.status <> NEW.status
        AND NOT (
            OLD.status = 'Failed' AND NEW.status IN ('Queued', 'Canceled')
            AND (OLD.next_retry_at IS NOT NULL OR trace.is_admin_retry())
        )
    )
    EXECUTE FUNCTION rat.allow_transitions('status',
        'Queued>Running', 'Queued>Failed', 'Queued>Canceled',
        'Running>Completed', 'Running>Failed', 'Running>Canceled');

-- The fence: it rises by one when a failed task is queued again, or when somebody takes over a
-- task whose lease has lapsed by the database's clock. A lease changes hands only with it.
CREATE FUNCTION trace.keep_fence() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    tries_again boolean := OLD.status = 'Failed' AND NEW.status = 'Queued';
    takes_over boolean := OLD.status = 'Running' AND NEW.status = 'Running'
        AND OLD.lease_token <> NEW.lease_token AND OLD.lease_expires_at < clock_timestamp();
BEGIN
    IF NEW.attempt <> OLD.attempt + (tries_again OR takes_over)::integer THEN
        RAISE EXCEPTION 'trace.tasks: attempt % cannot become %', OLD.attempt, NEW.attempt
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME,
                HINT = 'an attempt follows a failure, or a lease that has lapsed';
    END IF;
    IF OLD.status = 'Running' AND NEW.status = 'Running'
        AND OLD.lease_token <> NEW.lease_token AND NOT takes_over THEN
        RAISE EXCEPTION 'trace.tasks: % holds the lease until %', OLD.worker_id, OLD.lease_expires_at
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME;
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER ck_tasks_fence BEFORE UPDATE OF status, attempt, lease_token ON trace.tasks
    FOR EACH ROW EXECUTE FUNCTION trace.keep_fence();

CREATE FUNCTION trace.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% is only added to: % refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME;
END $$;

CREATE TRIGGER ck_alert_events_append_only BEFORE UPDATE OR DELETE ON trace.alert_events
    FOR EACH ROW EXECUTE FUNCTION trace.refuse_change();

-- Whether the text of a cursor comes before another, where that can be told: of two numbers, two
-- times. NULL where it cannot.
CREATE FUNCTION trace.cursor_precedes(value text, other text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF value ~ '^[+-]?\d+(\.\d+)?$' AND other ~ '^[+-]?\d+(\.\d+)?$' THEN
        RETURN value::numeric < other::numeric;
    END IF;
    IF value ~ '^\d{4}-\d\d-\d\d' AND other ~ '^\d{4}-\d\d-\d\d' THEN
        RETURN value::timestamptz < other::timestamptz;
    END IF;
    RETURN NULL;
EXCEPTION WHEN data_exception THEN  -- it looked like a time
    RETURN NULL;
END $$;

CREATE FUNCTION trace.refuse_backwards() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'trace.dataset_cursors: % cannot go back to %', OLD.cursor_value, NEW.cursor_value
        USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME,
            HINT = 'delete the row to begin anew';
END $$;

CREATE TRIGGER ck_dataset_cursors_forwards BEFORE UPDATE OF cursor_value ON trace.dataset_cursors
    FOR EACH ROW WHEN (
        OLD.cursor_column = NEW.cursor_column
        AND trace.cursor_precedes(NEW.cursor_value, OLD.cursor_value)
    )
    EXECUTE FUNCTION trace.refuse_backwards();
