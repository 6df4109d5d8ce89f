"""History: a year of runs that nobody ran, made inside of Postgres by SQL.

Ten thousand pipelines of two hundred namespaces: one in a hundred runs every half hour, four every
four hours, sixty daily and the rest weekly, which makes five million runs a year. One in twenty
fails often, one in two hundred has failed for days. The heap is in the order of time, ids are random,
as in a database that was a year in use.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy import Connection, text

from benchmarks.place import seconds
from rat_resources.metadata import Metadata

PIPELINES = 10_000
CLIENTS = 200
DAYS = 365
CONNECTIONS = 2
TABLES = (
    "rat.runs",
    "rat.quality_results",
    "chm.runs",
    "lakeflow.fact_pipeline_update_timeline",
    "lakeflow.fact_job_run_timeline",
    "lakeflow.fact_job_task_run_timeline",
)
# What the star, CHM and quality say of the same runs; a table and what a day of it is.
PACE = """
    CREATE SCHEMA bench;
    CREATE TABLE bench.pace AS
    SELECT
        n,
        md5('pipeline' || n)::uuid AS pipeline_id,
        md5('test' || n)::uuid AS test_id,
        'client_' || lpad((n % {clients})::text, 3, '0') AS namespace,
        (ARRAY['bronze', 'silver', 'gold'])[1 + n % 3] AS layer,
        'table_' || n AS name,
        make_interval(secs => CASE
            WHEN n % 100 < 1 THEN 1800
            WHEN n % 100 < 5 THEN 14400
            WHEN n % 100 < 65 THEN 86400
            ELSE 604800
        END) AS pause,
        TIMESTAMPTZ '{start}' + random() * INTERVAL '1 day' AS first,
        CASE WHEN n % 20 = 3 THEN 0.15 ELSE 0.01 END AS failing,
        n % 200 = 7 AS is_broken,
        2000 * exp(random_normal(0, 1.2)) AS ms,
        (1000 * exp(random_normal(3, 2)))::bigint AS rows
    FROM generate_series(1, {pipelines}) AS n;

    INSERT INTO rat.namespaces (name, created_at)
    SELECT DISTINCT namespace, TIMESTAMPTZ '{start}' FROM bench.pace;

    INSERT INTO rat.pipelines (id, namespace, layer, name, created_at, published_at)
    SELECT pipeline_id, namespace, layer, name, TIMESTAMPTZ '{start}', TIMESTAMPTZ '{start}'
    FROM bench.pace;

    INSERT INTO rat.quality_tests (id, pipeline_id, name, remediation)
    SELECT test_id, pipeline_id, 'key_is_unique', 'Ask whoever sends the files.' FROM bench.pace;

    INSERT INTO chm.clients (id, name, created_at)
    SELECT id, name, created_at FROM rat.namespaces;

    INSERT INTO chm.pipelines (
        id, client_id, name, platform, external_id, pipeline_type, environment, created_at,
        origin, table_name, published
    )
    SELECT
        pace.pipeline_id,
        clients.id,
        pace.layer || '.' || pace.name,
        (CASE WHEN is_ours THEN '{{custom}}' ELSE '{{airflow,dbt,cron,vendor_api}}' END::chm.platform[])[
            CASE WHEN is_ours THEN 1 ELSE 1 + n % 4 END
        ],
        pace.namespace || '.' || pace.layer || '.' || pace.name,
        CASE WHEN pace.layer = 'bronze' THEN 'ingestion' ELSE 'transform' END::chm.pipeline_type,
        (ARRAY['prod', 'prod', 'prod', 'staging', 'dev']::chm.environment[])[1 + n % 5],
        clients.created_at,
        CASE WHEN is_ours THEN 'rat' ELSE 'external' END,
        CASE WHEN is_ours THEN pace.namespace || '.' || pace.layer || '.' || pace.name END,
        CASE WHEN is_ours THEN true END
    FROM (SELECT *, n % 5 > 0 AS is_ours FROM bench.pace) AS pace
    JOIN chm.clients ON clients.name = pace.namespace;

    INSERT INTO chm.alert_rules (client_id, rule_type, channel, destination)
    SELECT id, 'on_failure', 'slack', '#' || name FROM chm.clients
    WHERE name < 'client_1';

    INSERT INTO lakeflow.dim_workspace (workspace_id, workspace_name)
    VALUES (lakeflow.workspace_id(), 'bench') ON CONFLICT DO NOTHING;

    INSERT INTO lakeflow.dim_job (workspace_id, job_id, job_name, create_time)
    SELECT lakeflow.workspace_id(), 'job-' || n, name, first FROM bench.pace;

    INSERT INTO lakeflow.dim_job_task (workspace_id, job_id, task_key, task_type)
    SELECT lakeflow.workspace_id(), 'job-' || n, name, 'asset' FROM bench.pace;

    INSERT INTO lakeflow.dim_pipeline (workspace_id, pipeline_id, pipeline_name, create_time)
    SELECT
        lakeflow.workspace_id(), pipeline_id::text, namespace || '.' || layer || '.' || name, first
    FROM bench.pace;
"""
DAY = """
    CREATE TEMP TABLE today ON COMMIT DROP AS
    WITH started AS (
        SELECT
            pace.*,
            at AS started_at,
            random() AS chance,
            greatest(30, ms * exp(random_normal(0, 0.4)))::integer AS duration_ms
        FROM bench.pace
        CROSS JOIN LATERAL generate_series(
            first + pause * ceil(greatest(
                extract(epoch FROM TIMESTAMPTZ '{day}' - first) / extract(epoch FROM pause), 0
            )),
            least(TIMESTAMPTZ '{day}' + INTERVAL '1 day', TIMESTAMPTZ '{end}')
                - INTERVAL '1 microsecond',
            pause
        ) AS at
    )
    SELECT
        md5(n || '/' || started_at)::uuid AS id,
        CASE
            WHEN is_broken AND started_at > TIMESTAMPTZ '{end}' - INTERVAL '9 days' THEN 'failed'
            WHEN chance < failing THEN 'failed'
            WHEN chance < failing + 0.005 THEN 'cancelled'
            ELSE 'success'
        END AS status,
        chance > 0.8 AS unchanged,
        least(started_at + make_interval(secs => duration_ms / 1000.0), TIMESTAMPTZ '{end}')
            AS finished_at,
        started.*
    FROM started
    ORDER BY started_at;

    INSERT INTO rat.runs (
        id, pipeline_id, status, trigger, started_at, finished_at, duration_ms, rows_written,
        rows_total, error, logs, phase_profiles, created_at, dagster_run_id, fence, worker, branch,
        base_commit, commit, snapshot_id, unchanged, settings
    )
    SELECT
        id, pipeline_id, status, 'schedule:0 * * * *', started_at, finished_at, duration_ms,
        CASE WHEN status = 'success' AND NOT unchanged THEN rows END,
        CASE WHEN status = 'success' THEN rows + n END,
        CASE WHEN status = 'failed' THEN 'Conversion Error: Could not convert string to INT32' END,
        LOGS, PHASES, started_at - INTERVAL '0.2 seconds', id::text, 1, 'host:1234:5678',
        'run-' || id || '-1', md5(n::text), CASE WHEN status = 'success' THEN md5(id::text) END,
        CASE WHEN status = 'success' THEN n END, status = 'success' AND unchanged, SETTINGS
    FROM today;

    INSERT INTO rat.quality_results (
        id, test_id, run_id, status, value, duration_ms, ran_at, compiled_sql
    )
    SELECT
        gen_random_uuid(), test_id, id,
        CASE
            WHEN status = 'failed' THEN 'failed'
            WHEN chance > 0.98 THEN 'warned'
            ELSE 'passed'
        END,
        CASE WHEN status = 'failed' THEN 3 ELSE 0 END, 20, finished_at, SQL
    FROM today
    WHERE status <> 'cancelled';

    INSERT INTO chm.runs (
        id, pipeline_id, external_run_id, status, started_at, finished_at, duration_seconds,
        rows_processed, error_message, status_reason, payload, created_at, ingested_at
    )
    SELECT
        id, pipeline_id, id::text,
        CASE
            WHEN status = 'success' AND unchanged THEN 'skipped'
            WHEN status = 'cancelled' THEN 'canceled'
            ELSE status
        END::chm.run_status,
        started_at, finished_at, duration_ms / 1000, rows,
        CASE WHEN status = 'failed' THEN 'Conversion Error' END, 'asked for: schedule', PAYLOAD,
        started_at, finished_at
    FROM today;

    INSERT INTO lakeflow.fact_pipeline_update_timeline (
        workspace_id, pipeline_id, update_id, period_start_time, period_end_time, state,
        update_type, request_id, trigger_type
    )
    SELECT
        lakeflow.workspace_id(), pipeline_id::text, id::text, started_at, finished_at,
        CASE status
            WHEN 'success' THEN 'COMPLETED' WHEN 'failed' THEN 'FAILED' ELSE 'CANCELED'
        END,
        'REFRESH', id::text, 'CRON'
    FROM today;

    INSERT INTO lakeflow.fact_job_run_timeline (
        workspace_id, run_id, job_id, period_start_time, period_end_time, result_state,
        trigger_type, run_type, termination_code
    )
    SELECT
        lakeflow.workspace_id(), id::text, 'job-' || n, started_at, finished_at,
        CASE status
            WHEN 'success' THEN 'SUCCEEDED' WHEN 'failed' THEN 'FAILED' ELSE 'CANCELLED'
        END,
        CASE WHEN chance > 0.97 THEN 'ONETIME_RETRY' ELSE 'CRON' END, 'JOB_RUN',
        CASE WHEN status = 'success' THEN 'SUCCESS' ELSE 'RUN_EXECUTION_ERROR' END
    FROM today;

    INSERT INTO lakeflow.fact_job_task_run_timeline (
        workspace_id, run_id, task_run_id, job_id, task_key, period_start_time, period_end_time,
        result_state
    )
    SELECT
        lakeflow.workspace_id(), id::text, id || ':' || name || ':1', 'job-' || n, name,
        started_at, finished_at,
        CASE status
            WHEN 'success' THEN 'SUCCEEDED' WHEN 'failed' THEN 'FAILED' ELSE 'CANCELLED'
        END
    FROM today;
"""
# As long as those of the demo's runs are.
WORDS = {
    "LOGS": """'[{"timestamp": "2026-01-01T00:00:00Z", "level": "info", "message": """
    f'"{"read what was pinned; " * 20}"'
    """}]'::jsonb""",
    "PHASES": "'["
    + ", ".join(
        f'{{"phase": "{phase}", "ms": 41, "rows": 12345, "bytes": 67890, "peak_memory": 1234567}}'
        for phase in ("branch", "compile", "write", "test", "publish")
    )
    + "]'::jsonb",
    "SETTINGS": """'{"release": 7}'::jsonb""",
    "SQL": f"'SELECT {'id, ' * 60} count(*)'",
    "PAYLOAD": (
        """'{"attempt": 1, "trigger": "schedule:0 * * * *", "version": 3, "rows_total": 123456, """
        """"branch": "run-6f0d5e5a-9c0e-5d2b-8a58-3f6d1f0b7a11-1", "full_refresh": false}'::jsonb"""
    ),
}


@dataclass(frozen=True)
class Year:
    """A year that was made."""

    scale: float
    ends_at: datetime
    seconds: float  # it took


def year(metadata: Metadata, *, scale: float) -> Year:
    """The year that is there already, else a new one that ends with the last whole hour."""
    kept = find_year(metadata)
    if kept is None:
        return make_year(metadata, scale=scale)
    if kept.scale != scale:
        message = f"the year that is kept there has --scale {kept.scale}"
        raise SystemExit(message)
    return kept


def find_year(metadata: Metadata) -> Year | None:
    """The year that is there, if one is."""
    with metadata.engine.connect() as connection:
        if connection.scalar(text("SELECT to_regclass('bench.year')")) is None:
            return None
        found = connection.execute(
            text("SELECT scale, ends_at, seconds FROM bench.year")
        )
        return Year(**found.mappings().one())


def make_year(metadata: Metadata, *, scale: float) -> Year:
    """Make one, and note down that it is whole."""
    ends_at = last_hour()
    took = seconds(lambda: fill(metadata, scale=scale, now=ends_at))
    note = """
        CREATE TABLE bench.year AS SELECT
            CAST(:scale AS float8) AS scale,
            CAST(:ends_at AS timestamptz) AS ends_at,
            CAST(:seconds AS float8) AS seconds
    """
    made = Year(scale, ends_at, took)
    with metadata.engine.begin() as connection:
        connection.execute(
            text(note), {"scale": scale, "ends_at": ends_at, "seconds": took}
        )
    return made


def fill(metadata: Metadata, *, scale: float, now: datetime) -> None:
    """Make the year that ends *now*."""
    start = now - timedelta(days=DAYS)
    places = {
        "pipelines": max(200, round(PIPELINES * scale)),
        "clients": max(10, round(CLIENTS * scale)),
        "start": start,
        "end": now,
    }
    with metadata.engine.begin() as connection:
        load(connection, PACE.format(**places))
    days = [start + timedelta(days=number) for number in range(DAYS)]
    with indexed_later(metadata):
        at_once(partial(fill_day, metadata, day, places=places) for day in days)
    administrate(metadata, "SELECT chm.refind_latest()", "VACUUM ANALYZE")


def fill_day(
    metadata: Metadata, day: datetime, *, places: Mapping[str, object]
) -> None:
    """Make one day of it."""
    statements = DAY.format(day=day, **places)
    for word, value in WORDS.items():
        statements = statements.replace(f" {word}", f" {value}")
    with metadata.engine.begin() as connection:
        load(connection, statements)


def at_once(tasks: Iterable[Callable[[], None]]) -> None:
    """Do tasks in about their order, a few at a time."""
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(lambda task: task(), tasks))


def load(connection: Connection, statements: str) -> None:
    """Run statements without keys being checked or triggers told of each: they are made right."""
    cursor = connection.connection.cursor()
    cursor.execute("SET LOCAL session_replication_role = replica")
    cursor.execute("SELECT setseed(0.5)")
    cursor.execute(statements)


@contextmanager
def indexed_later(metadata: Metadata) -> Iterator[None]:
    """Leave the indexes alone while rows come in, and build them whole afterwards.

    A power cut in between would lose the database, and nobody would mind.
    """
    places = ", ".join(f"'{table}'::regclass" for table in TABLES)
    for setting in ("fsync", "full_page_writes"):
        administrate(metadata, f"ALTER SYSTEM SET {setting} = off")
    administrate(metadata, "SELECT pg_reload_conf()")
    forget = f"UPDATE pg_index SET indisready = false WHERE indrelid IN ({places})"
    administrate(metadata, forget)
    yield
    at_once(partial(build_indexes, metadata, table) for table in TABLES)
    administrate(metadata, "ALTER SYSTEM RESET ALL")
    administrate(metadata, "SELECT pg_reload_conf()")


def build_indexes(metadata: Metadata, table: str) -> None:
    """Build the indexes of a table."""
    administrate(metadata, "SET maintenance_work_mem = '1GB'", f"REINDEX TABLE {table}")


def administrate(metadata: Metadata, *statements: str) -> None:
    """Run statements that Postgres allows in no transaction."""
    engine = metadata.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))


def last_hour() -> datetime:
    """The whole hour at which the year ends."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
