"""Whatever is written to a table, in whichever way: its rows are those of a model in plain Python.

And every reader finds the same ones. `RAT_STORIES=5000 pytest …` tries more than every run does.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from duckdb import DuckDBPyConnection
from hypothesis import HealthCheck, Phase, given, settings
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from rat_resources.errors import QueryError, SchemaChangeError
from rat_resources.lake.replacing import Part, Scope
from rat_resources.lake.sql import quote
from rat_resources.lake.strategies import MergeStrategy, apply
from rat_resources.lake.writing import Written
from rat_resources.names import TableName
from tests.rat_resources.lake.model import Model, RefusedError, count_rows
from tests.rat_resources.lake.stories import Step, as_sql, stories
from tests.rat_resources.lake.tables import make_catalog
from tests.rat_resources.lake.witnesses import connect, read_rows, readers_of

STORIES = int(os.environ.get("RAT_STORIES", "30"))


@pytest.fixture(scope="module")
def connection() -> Iterator[DuckDBPyConnection]:
    with connect() as connection:
        yield connection


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    folder: Path = tmp_path_factory.mktemp("lake")
    return make_catalog(folder)


def write(
    connection: DuckDBPyConnection, catalog: Catalog, name: TableName, step: Step
) -> Written:
    return apply(
        connection,
        query=step.query,
        catalog=catalog,
        table_name=name,
        config=step.config,
        attempt_time=step.at,
        full_refresh=step.full_refresh,
        scope=scope_of(step),
    )


def scope_of(step: Step) -> Scope | None:
    if step.scope is None:
        return None
    parts = [
        f"old.{quote(name)} IS NOT DISTINCT FROM CAST({as_sql(value)} AS {step.batch.columns[name]})"
        for name, value in step.scope.items()
    ]
    return Scope((Part(" AND ".join(parts), tuple(step.scope)),))


def expected_of(model: Model, step: Step) -> Model | None:
    """The table after a write, None if the write must be refused."""
    try:
        after = model.written(
            step.batch,
            config=step.config,
            at=step.at,
            full_refresh=step.full_refresh,
            scope=step.scope,
        )
    except RefusedError:
        return None
    divided = {each.column for each in step.config.partition_by}
    return after if divided <= after.columns.keys() else None


def check_counts(written: Written, *, before: Model, after: Model, step: Step) -> None:
    assert written.rows_total == len(after.rows)
    if not written.changed:
        assert before.counted() == after.counted()
        return
    assert written.rows_before == (len(before.rows) if before.exists else None)
    if step.config.merge_strategy != MergeStrategy.SCD2:
        gained = written.rows_inserted - written.rows_deleted
        assert gained == len(after.rows) - len(before.rows)


def check_rows(connection: DuckDBPyConnection, table: Table, model: Model) -> None:
    for reader in readers_of(table):
        found = read_rows(connection, table, by=reader)
        assert count_rows(model.columns, found) == model.counted(), reader


@settings(
    max_examples=STORIES,
    deadline=None,
    derandomize=STORIES <= 100,
    # Making a failure smaller takes minutes.
    phases=[Phase.generate, *([Phase.shrink] if STORIES > 100 else [])],
    suppress_health_check=list(HealthCheck),
)
@given(story=stories())
def test_every_strategy_leaves_the_rows_that_a_model_says_for_every_reader(
    connection: DuckDBPyConnection, catalog: Catalog, story: list[Step]
) -> None:
    name = TableName("shop", "silver", f"t{uuid4().hex}")
    model = Model()
    for step in story:
        after = expected_of(model, step)
        if after is None:
            with pytest.raises((SchemaChangeError, QueryError)):
                write(connection, catalog, name, step)
            continue

        written = write(connection, catalog, name, step)

        check_counts(written, before=model, after=after, step=step)
        model = after
    if model.exists:
        check_rows(connection, catalog.load_table(name.key), model)
