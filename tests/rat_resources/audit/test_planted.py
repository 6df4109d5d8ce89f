"""Planted differences: whatever row is deleted, doubled or changed, the audit names it."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from sqlalchemy import Row, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from rat_resources.audit import COMPARISONS, compare
from rat_resources.audit.comparison import Scene
from rat_resources.lake.refs import MAIN
from rat_resources.specs import SCHEMA_CHANGE
from tests.factories import Shop

RAT_RUN = """(
    SELECT max(entry -> 'entry_data' ->> 'text')
    FROM jsonb_array_elements(
        event::jsonb #> '{dagster_event,event_specific_data,materialization,metadata_entries}'
    ) AS entry
    WHERE entry ->> 'label' = 'rat_run_id'
)"""
TABLE = "concat_ws('.', namespace, layer, name)"


@dataclass(frozen=True)
class Plant:
    """A table, how a line calls a row of it, and what is changed of one."""

    table: str
    id: str
    change: str
    where: str = "true"
    fresh: str = ""  # what a doubled row has anew: column = value

    def __str__(self) -> str:
        return self.table


PLANTS = (
    Plant(
        "dagster.event_logs",
        RAT_RUN,
        "event = replace(event, 'rows_written', 'rows_read')",
        "dagster_event_type = 'ASSET_MATERIALIZATION'",
        fresh="id = nextval('dagster.event_logs_id_seq')",
    ),
    Plant(
        "dagster.asset_check_executions",
        "check_name",
        "execution_status = 'FAILED'",
        # That no column changes is told to Dagster alone.
        f"execution_status = 'SUCCEEDED' AND check_name <> '{SCHEMA_CHANGE}'",
        fresh="id = nextval('dagster.asset_check_executions_id_seq'), partition = 'x'",
    ),
    Plant(
        "rat.runs",
        "id::text",
        "rows_written = rows_written + 1",
        "status = 'success'",
        fresh="id = gen_random_uuid()",
    ),
    Plant("rat.publications", "run_id::text", "facts = facts || '{\"rows_total\": 7}'"),
    Plant(
        "rat.quality_results",
        "run_id::text",
        "value = value + 1",
        fresh="id = gen_random_uuid()",
    ),
    Plant("rat.iceberg_tables", TABLE, "row_count = row_count + 1"),
    Plant(
        "rat.iceberg_columns",
        "concat_ws('.', namespace, layer, table_name, name)",
        "type = 'blob'",
    ),
    Plant("rat.traced_tables", "dataset", "query_hash = 'other'"),
    Plant("rat.column_lineage", "output_dataset", "input_column = 'other'"),
    Plant("rat.run_files", "file_id::text", "file_id = gen_random_uuid()"),
    Plant(
        "rat.landing_claims",
        "file_id::text",
        "state = 'waiting'",
        "state = 'committed'",
    ),
    Plant("chm.clients", "name", "name = 'other'", fresh="id = gen_random_uuid()"),
    Plant(
        "chm.pipelines",
        "table_name",
        "pipeline_type = 'export'",
        fresh="id = gen_random_uuid()",
    ),
    Plant(
        "chm.runs",
        "id::text",
        "status = 'canceled'",
        "status = 'success'",
        fresh="id = gen_random_uuid()",
    ),
    Plant("chm.latest_runs", "pipeline_id::text", "started_at = now()"),
    Plant("lakeflow.dim_workspace", "workspace_id", "workspace_name = 'other'"),
    Plant(
        "lakeflow.dim_pipeline",
        "pipeline_id",
        "pipeline_type = 'python'",
        "pipeline_type = 'sql'",
    ),
    Plant(
        "lakeflow.fact_pipeline_update_timeline",
        "update_id",
        "state = 'FAILED'",
        "state = 'COMPLETED'",
    ),
    Plant("lakeflow.dim_job", "job_id", "job_name = 'other'"),
    Plant("lakeflow.dim_job_task", "task_key", "task_type = 'notebook'"),
    Plant(
        "lakeflow.fact_job_run_timeline",
        "run_id",
        "result_state = 'FAILED'",
        "result_state = 'SUCCEEDED'",
    ),
    Plant(
        "lakeflow.fact_job_task_run_timeline",
        "run_id",
        "result_state = 'SUCCEEDED'",
        "result_state = 'BLOCKED'",
    ),
    Plant("trace.orgs", "'default'", "slug = 'other'", fresh="id = gen_random_uuid()"),
    Plant("trace.users", "split_part(external_id, '/', 1)", "role = 'reader'"),
    Plant(
        "trace.dag_versions",
        "id::text",
        "yaml_hash = 'other'",
        fresh="id = gen_random_uuid()",
    ),
    Plant(
        "trace.dag_current_versions", "dag_name", "dag_version_id = gen_random_uuid()"
    ),
    Plant(
        "trace.jobs",
        "dag_name || '.' || name",
        "update_strategy = 'replace', config_hash = 'other'",
        "active",
        fresh="id = gen_random_uuid()",
    ),
    Plant("trace.datasets", "name", "name = name || 'x'"),
    Plant("trace.dataset_versions", "dataset_uuid::text", "config_hash = 'other'"),
    Plant(
        "trace.dag_version_datasets",
        "dataset_uuid::text",
        "dataset_version = gen_random_uuid()",
        "dag_version_id IN (SELECT dag_version_id FROM trace.dag_current_versions)",
    ),
    Plant("rat.run_inputs", "run_id::text", "snapshot_id = 7"),
    Plant(
        "trace.tasks",
        "id::text",
        "status = 'Canceled'",
        "status = 'Completed'",
        fresh="id = gen_random_uuid(), dedupe_key = NULL",
    ),
    Plant("trace.task_inputs", "task_id::text", "input_version = now()"),
    Plant("trace.partition_versions", "partition_key", "row_count = row_count + 1"),
    Plant("trace.dataset_cursors", "job_id::text", "cursor_value = 'other'"),
    Plant("trace.column_lineage", "output_column", "input_column = 'other'"),
    Plant(
        "dagster.runs",
        "run_id",
        "status = 'SUCCESS'",
        "status = 'FAILURE'",
        fresh="id = nextval('dagster.runs_id_seq')",
    ),
)


def differences(shop: Shop, tx: Session, *, first: str = "") -> Iterator[str]:
    """The lines of an audit of what *tx* sees, *first* of the comparisons that read a table."""
    refs = shop.whole.lake.refs
    branches = tuple(each.name for each in refs.references(prefix="run-"))
    scene = Scene(shop.whole, tx, head=refs.head(MAIN), branches=branches)
    for each in sorted(COMPARISONS, key=lambda each: first not in str(each.statement)):
        yield from (found.line for found in compare(scene, each, at_most=20).told)


def plant(tx: Session, statement: str) -> str:
    """Do what nobody may, past every trigger and foreign key; what the row is called."""
    tx.execute(text("SET LOCAL session_replication_role = replica"))
    return str(tx.execute(text(statement)).scalars().one())


def one_of(each: Plant) -> str:
    """The condition of one row."""
    return f"ctid = (SELECT ctid FROM {each.table} WHERE {each.where} LIMIT 1)"


def doubled(tx: Session, each: Plant) -> str:
    """The statement that writes a row once more, with a key of its own where it has one."""
    schema, _, name = each.table.partition(".")
    found: list[Row[tuple[str]]] = list(
        tx.execute(
            text("""
                SELECT column_name FROM information_schema.columns
                WHERE table_schema = :schema AND table_name = :name
                    AND is_generated = 'NEVER'
            """),
            {"schema": schema, "name": name},
        )
    )
    fresh = dict(one.split(" = ") for one in each.fresh.split(", ") if one)
    columns = ", ".join(f'"{row.column_name}"' for row in found)
    values = ", ".join(
        fresh.get(row.column_name, f'"{row.column_name}"') for row in found
    )
    return (
        f"INSERT INTO {each.table} ({columns}) SELECT {values} FROM {each.table}"
        f" WHERE {one_of(each)} RETURNING {each.id}"
    )


def is_named(shop: Shop, tx: Session, each: Plant, *, row: str) -> bool:
    """Whether a line of an audit names the row and its schema."""
    schema = each.table.partition(".")[0]
    return any(
        row in line and schema in line.lower()
        for line in differences(shop, tx, first=each.table)
    )


def test_what_really_happened_has_no_differences(history: Shop) -> None:
    with history.whole.metadata.transaction() as tx:
        assert list(differences(history, tx)) == []


@pytest.mark.parametrize("each", PLANTS, ids=str)
def test_a_deleted_row_is_named(history: Shop, each: Plant) -> None:
    delete = f"DELETE FROM {each.table} WHERE {one_of(each)} RETURNING {each.id}"
    with history.whole.metadata.transaction() as tx:
        row = plant(tx, delete)

        named = is_named(history, tx, each, row=row)
        tx.rollback()

    assert named


@pytest.mark.parametrize("each", PLANTS, ids=str)
def test_a_changed_row_is_named(history: Shop, each: Plant) -> None:
    change = f"UPDATE {each.table} SET {each.change} WHERE {one_of(each)} RETURNING {each.id}"
    with history.whole.metadata.transaction() as tx:
        row = plant(tx, change)

        named = is_named(history, tx, each, row=row)
        tx.rollback()

    assert named


@pytest.mark.parametrize("each", PLANTS, ids=str)
def test_a_doubled_row_is_named_or_refused(history: Shop, each: Plant) -> None:
    with history.whole.metadata.transaction() as tx:
        try:
            row = plant(tx, doubled(tx, each))
        except IntegrityError:  # that is as good
            tx.rollback()
            return

        named = is_named(history, tx, each, row=row)
        tx.rollback()

    assert named
