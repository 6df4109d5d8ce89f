"""Trace's tables: what they refuse, whoever writes."""

import uuid
from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from rat_resources.metadata import Metadata

ORG, OTHER_ORG, USER, VERSION, JOB, DATASET, GENERATION, TASK, EVENT, RUN = (
    str(uuid.UUID(int=n)) for n in range(1, 11)
)
OTHER, STRANGE = (str(uuid.UUID(int=n)) for n in (21, 22))
# One of everything, to break something of.
ROWS = f"""
    INSERT INTO trace.orgs (id, name, slug) VALUES ('{ORG}', 'shop', 'shop'), ('{OTHER_ORG}', 'x', 'x');
    INSERT INTO trace.users (id, org_id, external_id, role) VALUES ('{USER}', '{ORG}', 'ann', 'writer');
    INSERT INTO trace.dag_versions (id, org_id, dag_name, yaml_hash, state)
        VALUES ('{VERSION}', '{ORG}', 'shop', 'sha256:1', 'serving');
    INSERT INTO trace.dag_current_versions VALUES ('{ORG}', 'shop', '{VERSION}');
    INSERT INTO trace.jobs (id, org_id, name, dag_name, dag_version_id, activation, runtime, operator,
        config_hash, update_strategy, active) VALUES
        ('{JOB}', '{ORG}', 'gold.a', 'shop', '{VERSION}', 'source', 'dagster', 'sql', 'h', 'replace',
            true);
    INSERT INTO trace.datasets (id, org_id, name, producer_dag_name, producer_job_name, producer_output_index)
        VALUES ('{DATASET}', '{ORG}', 'shop.gold.a', 'shop', 'gold.a', 0),
            ('{OTHER}', '{ORG}', 'shop.gold.b', 'shop', 'gold.b', 0);
    INSERT INTO trace.dataset_versions (id, dataset_uuid, storage_location, config_hash)
        VALUES ('{GENERATION}', '{DATASET}', 'a', 'h');
    INSERT INTO trace.dag_version_datasets VALUES ('{VERSION}', '{DATASET}', '{GENERATION}');
    INSERT INTO trace.dataset_cursors VALUES ('{DATASET}', '{GENERATION}', '{JOB}', 'id', '1000');
    INSERT INTO trace.partition_versions (dataset_uuid, dataset_version, partition_key)
        VALUES ('{DATASET}', '{GENERATION}', 'all');
    INSERT INTO trace.tasks (id, job_id, dedupe_key) VALUES ('{TASK}', '{JOB}', 'once');
    INSERT INTO trace.alert_events (id, org_id, dedupe_key) VALUES ('{EVENT}', '{ORG}', 'once');
    INSERT INTO trace.alert_deliveries (org_id, alert_event_id, channel) VALUES ('{ORG}', '{EVENT}', 'slack');
    INSERT INTO trace.query_results (org_id, mode, status, sql_hash)
        VALUES ('{ORG}', 'interactive', 'Running', 'h');
"""


@pytest.fixture
def tx(metadata: Metadata) -> Iterator[Session]:
    """A transaction in which there is one of everything."""
    with metadata.transaction() as tx:
        tx.execute(text(ROWS))
        yield tx


def refused(tx: Session, statement: str) -> str:
    """What Postgres says against a statement."""
    with pytest.raises(DBAPIError) as caught, tx.begin_nested():
        tx.execute(text(statement))
    return str(caught.value.orig)


COPY_OF_JOB = f"""
    INSERT INTO trace.jobs (org_id, name, dag_name, dag_version_id, activation, runtime, operator,
        config_hash, update_strategy, active, execution_strategy, unique_key)
    VALUES ('{ORG}', %s, 'shop', '{VERSION}', %s, 'dagster', 'sql', 'h', %s, %s, %s, %s)
"""


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        (
            f"INSERT INTO trace.orgs (name, slug) VALUES ('again', 'shop') -- {ORG}",
            "uq_orgs_slug",
        ),
        (
            f"INSERT INTO trace.users (org_id, external_id, role) VALUES ('{ORG}', 'bob', 'king')",
            "ck_users_role",
        ),
        (
            f"INSERT INTO trace.users (org_id, external_id, role) VALUES ('{ORG}', 'ann', 'admin')",
            "uq_users_external_id",
        ),
        (
            "INSERT INTO trace.dag_versions (org_id, dag_name, yaml_hash)"
            f" VALUES ('{ORG}', 'shop', 'sha256:1')",
            "uq_dag_versions_org_id_dag_name_yaml_hash",
        ),
        (
            "INSERT INTO trace.dag_versions (org_id, dag_name, yaml_hash, state)"
            f" VALUES ('{ORG}', 'shop', 'sha256:2', 'serving')",
            "uq_dag_versions_serving",
        ),
        (
            f"INSERT INTO trace.dag_current_versions VALUES ('{ORG}', 'mart', '{VERSION}')",
            "fk_dag_current_versions",
        ),
        (
            COPY_OF_JOB
            % ("'gold.a'", "'source'", "'replace'", "false", "NULL", "NULL"),
            "uq_jobs_dag_version_id_name",
        ),
        (
            COPY_OF_JOB % ("'b'", "'source'", "'append'", "false", "NULL", "NULL"),
            "ck_jobs_append_needs_a_key",
        ),
        (
            COPY_OF_JOB % ("'b'", "'source'", "'append'", "false", "NULL", "'{}'"),
            "ck_jobs_append_needs_a_key",
        ),
        (
            COPY_OF_JOB % ("'b'", "'manual'", "'replace'", "false", "NULL", "NULL"),
            "ck_jobs_activation",
        ),
        (
            COPY_OF_JOB % ("'b'", "'reactive'", "'replace'", "false", "NULL", "NULL"),
            "ck_jobs_source_has_no_strategy",
        ),
        (
            "INSERT INTO trace.datasets (org_id, name, producer_dag_name, producer_job_name,"
            f" producer_output_index) VALUES ('{ORG}', 'shop.gold.a', 'shop', 'other', 0)",
            "uq_datasets_org_id_name",
        ),
        (
            "INSERT INTO trace.datasets (org_id, name, producer_dag_name, producer_job_name,"
            f" producer_output_index) VALUES ('{ORG}', 'other', 'shop', 'gold.a', 0)",
            "uq_datasets_producer",
        ),
        (
            f"INSERT INTO trace.dag_version_datasets VALUES ('{VERSION}', '{OTHER}', '{GENERATION}')",
            "fk_dag_version_datasets_dataset_uuid_dataset_version",
        ),
        (
            "INSERT INTO trace.partition_versions (dataset_uuid, dataset_version, partition_key)"
            f" VALUES ('{OTHER}', '{GENERATION}', 'all')",
            "fk_partition_versions_dataset_uuid_dataset_version",
        ),
        ("UPDATE trace.partition_versions SET row_count = -1", "row_count"),
        ("UPDATE trace.partition_versions SET bytes = -1", "bytes"),
        ("UPDATE trace.query_results SET duration_ms = -1", "duration_ms"),
        (
            f"INSERT INTO trace.tasks (job_id, dedupe_key) VALUES ('{JOB}', 'once')",
            "uq_tasks_dedupe_key",
        ),
        (
            f"INSERT INTO trace.tasks (job_id, status, attempts) VALUES ('{JOB}', 'Done', 1)",
            "status",
        ),
        (
            f"INSERT INTO trace.tasks (job_id, status, attempts) VALUES ('{JOB}', 'Running', 1)",
            "ck_tasks_lease_token",
        ),
        ("UPDATE trace.tasks SET lease_token = gen_random_uuid()", "ck_tasks_lease"),
        ("UPDATE trace.tasks SET attempts = 1", "ck_tasks_queued"),
        ("UPDATE trace.tasks SET next_retry_at = now()", "ck_tasks_retry"),
        ("UPDATE trace.tasks SET completed_at = now()", "ck_tasks_unfinished"),
        (
            f"INSERT INTO trace.alert_events (org_id, dedupe_key) VALUES ('{ORG}', 'once')",
            "uq_alert_events_org_id_dedupe_key",
        ),
        (
            "INSERT INTO trace.alert_deliveries (org_id, alert_event_id, channel)"
            f" VALUES ('{ORG}', '{EVENT}', 'slack')",
            "uq_alert_deliveries",
        ),
        ("UPDATE trace.alert_deliveries SET channel = 'pigeon'", "channel"),
        ("UPDATE trace.alert_deliveries SET delivered_at = now()", "delivered"),
        (
            "INSERT INTO trace.data_invalidations (dataset_uuid, dataset_version, scope, reason)"
            f" VALUES ('{DATASET}', '{GENERATION}', 'partition', 'manual')",
            "ck_data_invalidations_what",
        ),
        (
            "INSERT INTO trace.data_invalidations (dataset_uuid, dataset_version, scope, reason,"
            f" row_filter) VALUES ('{DATASET}', '{GENERATION}', 'row_range', 'boredom', '{{}}')",
            "ck_data_invalidations_reason",
        ),
        (
            f"INSERT INTO trace.pii_access_log (org_id, dataset, action) VALUES ('{ORG}', 'd', 'read')",
            "ck_pii_access_log_one_principal",
        ),
        (
            "INSERT INTO trace.pii_access_log (org_id, dataset, action, user_id, task_id)"
            f" VALUES ('{ORG}', 'd', 'read', '{USER}', '{TASK}')",
            "ck_pii_access_log_one_principal",
        ),
        (
            "INSERT INTO trace.saved_queries (org_id, user_id, name, query, visibility)"
            f" VALUES ('{ORG}', '{USER}', 'n', 'q', 'role:')",
            "ck_saved_queries_visibility",
        ),
    ],
)
def test_a_row_that_cannot_be_is_refused(
    tx: Session, statement: str, constraint: str
) -> None:
    said = refused(tx, statement)

    assert constraint in said


def test_of_one_job_one_version_is_active(tx: Session) -> None:
    tx.execute(
        text(
            "INSERT INTO trace.dag_versions (id, org_id, dag_name, yaml_hash)"
            f" VALUES ('{STRANGE}', '{ORG}', 'shop', 'sha256:2')"
        )
    )
    again = COPY_OF_JOB.replace(VERSION, STRANGE)

    said = refused(
        tx, again % ("'gold.a'", "'source'", "'replace'", "true", "NULL", "NULL")
    )

    assert "uq_jobs_active" in said


RUNNING = f"""
    UPDATE trace.tasks SET status = 'Running', attempts = 1, worker_id = 'w', started_at = now(),
        lease_token = '{ORG}', lease_expires_at = now() + interval '1 minute'
"""
ENDED = "lease_token = NULL, lease_expires_at = NULL, completed_at = now()"
COMPLETED = f"UPDATE trace.tasks SET status = 'Completed', {ENDED}"
FAILED = f"UPDATE trace.tasks SET status = 'Failed', {ENDED}, next_retry_at = now()"
LOST = f"UPDATE trace.tasks SET status = 'Failed', {ENDED}"
CANCELED = "UPDATE trace.tasks SET status = 'Canceled', next_retry_at = NULL, completed_at = now()"
AGAIN = """
    UPDATE trace.tasks SET status = 'Queued', attempt = attempt + 1, next_retry_at = NULL,
        completed_at = NULL
"""
LAPSED = "UPDATE trace.tasks SET lease_expires_at = now() - interval '1 second'"
TAKEN = f"UPDATE trace.tasks SET lease_token = '{USER}'"
ADMIN = "SET LOCAL rat.retry = 'on'"


@pytest.mark.parametrize(
    "steps",
    [
        [RUNNING, COMPLETED],
        [RUNNING, FAILED, AGAIN, RUNNING.replace("attempts = 1", "attempts = 2")],
        [RUNNING, FAILED, CANCELED],
        [CANCELED],
        [LOST],
        [RUNNING, LOST, ADMIN, AGAIN],
        [RUNNING, LAPSED, f"{TAKEN}, attempt = 2, attempts = 2"],
    ],
)
def test_a_task_takes_the_ways_that_there_are(tx: Session, steps: list[str]) -> None:
    for step in steps:
        tx.execute(text(step))


@pytest.mark.parametrize(
    ("steps", "forbidden"),
    [
        ([], COMPLETED),
        ([RUNNING], AGAIN),
        ([RUNNING, COMPLETED], LOST),
        ([RUNNING, COMPLETED], CANCELED),
        ([RUNNING, COMPLETED], AGAIN),
        ([CANCELED], AGAIN),
        ([CANCELED], LOST),
        ([RUNNING, LOST], AGAIN),
        ([RUNNING, LOST], CANCELED),
        ([RUNNING, FAILED], AGAIN.replace("attempt + 1", "attempt + 2")),
        ([RUNNING, FAILED], AGAIN.replace("attempt + 1", "attempt")),
        ([RUNNING], f"{TAKEN}, attempt = 2, attempts = 2"),
        ([RUNNING], TAKEN),
        ([RUNNING, LAPSED], TAKEN),
        ([], "UPDATE trace.tasks SET attempt = 2, attempts = 1"),
    ],
)
def test_a_task_takes_no_other_way(
    tx: Session, steps: list[str], forbidden: str
) -> None:
    for step in steps:
        tx.execute(text(step))

    said = refused(tx, forbidden)

    assert "trace.tasks" in said


def change(table: str, column: str, was: str, becomes: str) -> tuple[str, str]:
    """A row in a state, planted, and the statement that moves it."""
    return (
        f"UPDATE {table} SET {column} = '{was}'",
        f"UPDATE {table} SET {column} = '{becomes}'",
    )


@pytest.mark.parametrize(
    ("plant", "move"),
    [
        change("trace.dag_versions", "state", "staged", "serving"),
        change("trace.dag_versions", "state", "serving", "staged"),
        change("trace.dag_versions", "state", "retired", "ready"),
        change("trace.query_results", "status", "Succeeded", "Failed"),
        change("trace.query_results", "status", "Queued", "Succeeded"),
        change("trace.alert_deliveries", "status", "failed", "pending"),
        change("trace.alert_deliveries", "status", "pending", "retrying"),
    ],
)
def test_a_state_that_is_final_or_far_away_is_not_left_or_reached(
    tx: Session, plant: str, move: str
) -> None:
    tx.execute(text("SET LOCAL session_replication_role = replica"))
    tx.execute(text(plant))
    tx.execute(text("SET LOCAL session_replication_role = origin"))

    said = refused(tx, move)

    assert "cannot become" in said


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("success", "running"),
        ("success", "failed"),
        ("failed", "success"),
        ("cancelled", "running"),
        ("pending", "success"),
        ("running", "pending"),
    ],
)
def test_a_run_that_ended_has_ended(tx: Session, was: str, becomes: str) -> None:
    plant_run(tx, was)

    said = refused(
        tx,
        f"UPDATE rat.runs SET status = '{becomes}', finished_at ="
        f" CASE WHEN '{becomes}' IN ('pending', 'running') THEN NULL ELSE now() END",
    )

    assert f"rat.runs: {was} cannot become {becomes}" in said


def plant_run(tx: Session, status: str) -> None:
    """A run in a state."""
    tx.execute(
        text(f"""
            INSERT INTO rat.namespaces (name) VALUES ('shop');
            INSERT INTO rat.pipelines (id, namespace, layer, name)
                VALUES ('{JOB}', 'shop', 'gold', 'a');
            INSERT INTO rat.runs (id, pipeline_id, status, finished_at) VALUES ('{RUN}', '{JOB}',
                '{status}', CASE WHEN '{status}' IN ('pending', 'running') THEN NULL ELSE now() END)
        """)
    )


@pytest.mark.parametrize(
    ("was", "becomes"),
    [("undone", "published"), ("closed", "published"), ("intended", "closed")],
)
def test_a_publication_is_not_done_twice(tx: Session, was: str, becomes: str) -> None:
    plant_run(tx, "running")
    tx.execute(
        text(
            "INSERT INTO rat.publications (run_id, pipeline_id, state, branch, fence, from_hash,"
            f" expected_main, facts) VALUES ('{RUN}', '{JOB}', '{was}', 'b', 1, 'h', 'h', '{{}}')"
        )
    )

    said = refused(tx, f"UPDATE rat.publications SET state = '{becomes}'")

    assert f"{was} cannot become {becomes}" in said


def test_a_pipeline_that_is_deleted_takes_its_runs_with_it(tx: Session) -> None:
    plant_run(tx, "success")

    tx.execute(text("DELETE FROM rat.namespaces WHERE name = 'shop'"))

    assert tx.scalar(text("SELECT count(*) FROM rat.runs")) == 0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE trace.alert_events SET severity = 'info'",
        "DELETE FROM trace.alert_events",
    ],
)
def test_what_happened_is_not_unsaid(tx: Session, statement: str) -> None:
    tx.execute(text("DELETE FROM trace.alert_deliveries"))

    said = refused(tx, statement)

    assert "trace.alert_events is only added to" in said


@pytest.mark.parametrize(
    ("was", "becomes", "goes_back"),
    [
        ("1000", "999", True),
        ("999", "1000", False),
        ("2026-01-02", "2026-01-01T23:00:00+00:00", True),
        ("2026-01-02", "2026-01-03", False),
        ("b", "a", False),  # nobody knows how it is sorted
        ("2026-13-45", "2026-01-01", False),  # no time
    ],
)
def test_a_cursor_does_not_go_back(
    tx: Session, was: str, becomes: str, *, goes_back: bool
) -> None:
    tx.execute(text("DELETE FROM trace.dataset_cursors"))
    tx.execute(
        text(
            f"INSERT INTO trace.dataset_cursors VALUES"
            f" ('{DATASET}', '{GENERATION}', '{JOB}', 'at', '{was}')"
        )
    )
    move = f"UPDATE trace.dataset_cursors SET cursor_value = '{becomes}'"

    if goes_back:
        assert f"{was} cannot go back to {becomes}" in refused(tx, move)
    else:
        tx.execute(text(move))


# By name.

INVALIDATION = """
    INSERT INTO trace_by_name.data_invalidations (dataset, scope, partition_key, reason)
    VALUES ('{}', 'partition', 'all', 'manual') RETURNING id
"""


def test_an_invalidation_by_name_is_of_the_generation_that_is_served(
    tx: Session,
) -> None:
    written = tx.scalar(text(INVALIDATION.format("shop.gold.a")))

    rows = tx.execute(
        text("SELECT id, dataset_uuid, dataset_version FROM trace.data_invalidations")
    ).all()
    assert [(str(a), str(b), str(c)) for a, b, c in rows] == [
        (str(written), DATASET, GENERATION)
    ]


def test_an_unknown_name_is_refused_in_words(tx: Session) -> None:
    said = refused(tx, INVALIDATION.format("shop.gold.z"))

    assert "no published dataset is called 'shop.gold.z'" in said
    assert "trace.current_dataset_versions lists them" in said


def test_a_session_sees_by_name_what_is_of_its_org(tx: Session) -> None:
    question = text("SELECT dataset FROM trace_by_name.partition_versions")
    everybodys = tx.scalars(question).all()

    tx.execute(text("SET LOCAL rat.org = 'x'"))

    assert everybodys == ["shop.gold.a"]
    assert tx.scalars(question).all() == []
    assert "no published dataset" in refused(tx, INVALIDATION.format("shop.gold.a"))


def test_there_is_one_org_and_one_administrator_from_the_start(
    metadata: Metadata,
) -> None:
    with metadata.transaction() as tx:
        found = tx.execute(
            text("""
                SELECT slug, role, external_id FROM trace.orgs
                JOIN trace.users ON users.org_id = orgs.id
            """)
        ).all()

    assert [tuple(row) for row in found] == [("default", "admin", "default/admin")]
