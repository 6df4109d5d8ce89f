"""Clients, their pipelines and their runs: the document of CHM. Safe: only a new schema."""

from alembic import op

from rat_resources.metadata.migrations import ensure_schema, execute_script

revision = "0014_chm"
down_revision = "0013_trace"

TYPES = {
    "platform": ("airflow", "dbt", "cron", "vendor_api", "custom"),
    "pipeline_type": ("ingestion", "transform", "quality", "export", "healthcheck"),
    "environment": ("dev", "staging", "prod"),
    "run_status": ("running", "success", "failed", "canceled", "skipped"),
    "rule_type": ("on_failure", "failures_in_window"),
    "channel": ("slack", "email", "webhook"),
}

CLIENTS = """
    CREATE TABLE chm.clients (
        id UUID DEFAULT gen_random_uuid() NOT NULL,
        name VARCHAR(255) NOT NULL,
        is_active BOOLEAN DEFAULT true NOT NULL,
        partner JSONB,
        created_at TIMESTAMPTZ DEFAULT now() NOT NULL,
        updated_at TIMESTAMPTZ DEFAULT now() NOT NULL,
        CONSTRAINT pk_clients PRIMARY KEY (id),
        CONSTRAINT uq_clients_name UNIQUE (name),
        CONSTRAINT ck_clients_name CHECK (btrim(name) <> ''),
        CONSTRAINT ck_clients_partner CHECK (
            jsonb_typeof(partner) = 'object'
            AND partner - '{base_url,token,timeout,retries,backoff,policy}'::text[] = '{}'
        ),
        CONSTRAINT ck_clients_partner_token CHECK (
            partner->>'token' ~ '^env:[A-Za-z_][A-Za-z0-9_]*$'
        ),
        CONSTRAINT ck_clients_partner_base_url CHECK (
            partner->>'base_url' ~ '^https?://[^/?#@[:space:]]+(/[^?#[:space:]]*)?$'
        ),
        CONSTRAINT ck_clients_partner_policy CHECK (
            partner->>'policy' IN ('ignore', 'reject')
        )
    )
"""
PIPELINES = """
    CREATE TABLE chm.pipelines (
        id UUID DEFAULT gen_random_uuid() NOT NULL,
        client_id UUID NOT NULL,
        name VARCHAR(255) NOT NULL,
        platform chm.platform NOT NULL,
        external_id TEXT,
        pipeline_type chm.pipeline_type NOT NULL,
        description TEXT,
        environment chm.environment DEFAULT 'prod' NOT NULL,
        is_active BOOLEAN DEFAULT true NOT NULL,
        created_at TIMESTAMPTZ DEFAULT now() NOT NULL,
        updated_at TIMESTAMPTZ DEFAULT now() NOT NULL,
        origin TEXT DEFAULT 'external' NOT NULL,
        table_name TEXT,
        published BOOLEAN,
        CONSTRAINT pk_pipelines PRIMARY KEY (id),
        CONSTRAINT uq_pipelines_client_id_name UNIQUE (client_id, name),
        CONSTRAINT uq_pipelines_table_name UNIQUE (table_name),
        CONSTRAINT fk_pipelines_client_id
            FOREIGN KEY (client_id) REFERENCES chm.clients (id) ON DELETE RESTRICT,
        CONSTRAINT ck_pipelines_name CHECK (btrim(name) <> ''),
        CONSTRAINT ck_pipelines_external_id CHECK (btrim(external_id) <> ''),
        CONSTRAINT ck_pipelines_origin CHECK (origin IN ('rat', 'external')),
        CONSTRAINT ck_pipelines_ours CHECK (
            (origin = 'rat') = (table_name IS NOT NULL)
            AND (origin = 'rat') = (published IS NOT NULL)
        ),
        CONSTRAINT ck_pipelines_reserved CHECK (
            origin = 'rat' OR (
                name NOT LIKE '% (rat)'
                AND COALESCE(external_id, '') NOT LIKE '% (rat)'
            )
        )
    )
"""
RUNS = """
    CREATE TABLE chm.runs (
        id UUID DEFAULT gen_random_uuid() NOT NULL,
        pipeline_id UUID NOT NULL,
        external_run_id TEXT NOT NULL,
        status chm.run_status NOT NULL,
        started_at TIMESTAMPTZ,
        finished_at TIMESTAMPTZ,
        duration_seconds INTEGER,
        rows_processed BIGINT,
        error_message TEXT,
        status_reason TEXT,
        payload JSONB,
        ingested_at TIMESTAMPTZ DEFAULT now() NOT NULL,
        created_at TIMESTAMPTZ DEFAULT now() NOT NULL,
        updated_at TIMESTAMPTZ DEFAULT now() NOT NULL,
        event_time TIMESTAMPTZ NOT NULL
            GENERATED ALWAYS AS (COALESCE(finished_at, started_at, created_at)) STORED,
        CONSTRAINT pk_runs PRIMARY KEY (id),
        CONSTRAINT uq_runs_pipeline_id_external_run_id
            UNIQUE (pipeline_id, external_run_id),
        CONSTRAINT fk_runs_pipeline_id
            FOREIGN KEY (pipeline_id) REFERENCES chm.pipelines (id) ON DELETE RESTRICT,
        CONSTRAINT ck_runs_external_run_id CHECK (btrim(external_run_id) <> ''),
        CONSTRAINT ck_runs_duration_seconds CHECK (duration_seconds >= 0),
        CONSTRAINT ck_runs_rows_processed CHECK (rows_processed >= 0)
    )
"""
ALERT_RULES = """
    CREATE TABLE chm.alert_rules (
        id UUID DEFAULT gen_random_uuid() NOT NULL,
        client_id UUID,
        pipeline_id UUID,
        rule_type chm.rule_type NOT NULL,
        threshold INTEGER,
        window_minutes INTEGER,
        channel chm.channel NOT NULL,
        destination VARCHAR(512) NOT NULL,
        is_enabled BOOLEAN DEFAULT true NOT NULL,
        created_at TIMESTAMPTZ DEFAULT now() NOT NULL,
        updated_at TIMESTAMPTZ DEFAULT now() NOT NULL,
        CONSTRAINT pk_alert_rules PRIMARY KEY (id),
        CONSTRAINT fk_alert_rules_client_id
            FOREIGN KEY (client_id) REFERENCES chm.clients (id) ON DELETE RESTRICT,
        CONSTRAINT fk_alert_rules_pipeline_id
            FOREIGN KEY (pipeline_id) REFERENCES chm.pipelines (id) ON DELETE RESTRICT,
        CONSTRAINT ck_alert_rules_threshold CHECK (threshold > 0),
        CONSTRAINT ck_alert_rules_window_minutes CHECK (window_minutes > 0),
        CONSTRAINT ck_alert_rules_destination CHECK (btrim(destination) <> ''),
        CONSTRAINT ck_alert_rules_scope CHECK (
            client_id IS NOT NULL OR pipeline_id IS NOT NULL
        ),
        CONSTRAINT ck_alert_rules_parameters CHECK (
            rule_type <> 'failures_in_window'
            OR (threshold IS NOT NULL AND window_minutes IS NOT NULL)
        )
    )
"""
INDEXES = (
    "CREATE INDEX ix_pipelines_client_id ON chm.pipelines (client_id)",
    """
    CREATE UNIQUE INDEX uq_pipelines_external_id
        ON chm.pipelines (client_id, platform, external_id)
        WHERE external_id IS NOT NULL
    """,
    """
    CREATE INDEX ix_runs_latest ON chm.runs (
        pipeline_id, started_at DESC NULLS LAST, finished_at DESC NULLS LAST, id DESC
    ) INCLUDE (status, created_at)
    """,
    """
    CREATE INDEX ix_runs_pipeline_status
        ON chm.runs (
            pipeline_id, status, started_at DESC NULLS LAST, event_time DESC
        )
    """,
    """
    CREATE INDEX ix_runs_status_event_time
        ON chm.runs (status, event_time) INCLUDE (pipeline_id)
    """,
    """
    CREATE INDEX ix_runs_event_time
        ON chm.runs (event_time)
        INCLUDE (pipeline_id, status, duration_seconds, rows_processed)
    """,
    """
    CREATE UNIQUE INDEX uq_alert_rules_active
        ON chm.alert_rules (client_id, pipeline_id, rule_type, channel, destination)
        NULLS NOT DISTINCT WHERE is_enabled
    """,
    "CREATE INDEX ix_alert_rules_client_id ON chm.alert_rules (client_id)",
    "CREATE INDEX ix_alert_rules_pipeline_id ON chm.alert_rules (pipeline_id)",
)

TOUCH = """
    CREATE FUNCTION chm.touch() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.updated_at := now();
        RETURN NEW;
    END $$
"""
KEEP_FINAL = """
    CREATE FUNCTION chm.keep_final() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'run % is %, which is final: it cannot become %',
            OLD.external_run_id, OLD.status, NEW.status
            USING ERRCODE = 'check_violation', SCHEMA = 'chm', TABLE = 'runs',
                  CONSTRAINT = 'ck_runs_final';
    END $$
"""
FINAL = """
    CREATE TRIGGER final BEFORE UPDATE OF status ON chm.runs FOR EACH ROW
    WHEN (OLD.status <> 'running' AND NEW.status <> OLD.status)
    EXECUTE FUNCTION chm.keep_final()
"""


def upgrade() -> None:
    """Create the schema: types, tables, and what they refuse."""
    ensure_schema(op.get_bind(), "chm")
    for name, values in TYPES.items():
        listed = ", ".join(f"'{value}'" for value in values)
        op.execute(f"CREATE TYPE chm.{name} AS ENUM ({listed})")
    for table in (CLIENTS, PIPELINES, RUNS, ALERT_RULES):
        op.execute(table)
    for index in INDEXES:
        op.execute(index)
    op.execute(TOUCH)
    for name in ("clients", "pipelines", "runs", "alert_rules"):
        op.execute(
            f"CREATE TRIGGER touch BEFORE UPDATE ON chm.{name} FOR EACH ROW"
            " EXECUTE FUNCTION chm.touch()"
        )
    op.execute(KEEP_FINAL)
    op.execute(FINAL)
    execute_script(op.get_bind(), "0014_chm_latest.sql")
    execute_script(op.get_bind(), "0014_chm_dashboards.sql")


def downgrade() -> None:
    """Drop the schema with its types."""
    op.execute("DROP SCHEMA chm CASCADE")
