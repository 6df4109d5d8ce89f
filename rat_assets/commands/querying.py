"""Querying: SQL over published tables, printed for people or written for programs."""

import csv
import json
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time
from itertools import islice
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq
from duckdb import DuckDBPyConnection

from rat_assets.commands.display import print_table
from rat_assets.commands.opening import open_platform
from rat_assets.inputs import Inputs
from rat_resources import graph, releases
from rat_resources.errors import NotFoundError, QueryError
from rat_resources.lake.refs import MAIN
from rat_resources.lake.rows import as_json
from rat_resources.names import TableName, nearest
from rat_resources.platform import Platform
from rat_resources.queries import Answer, Row, answering

SHORTEST_HASH = 6
BATCH = 50_000


def query(sql: str, *, ref: str, form: str, limit: int) -> None:
    """Print the answer to *sql* in a *form*; 0 is no limit."""
    if form == "parquet" and sys.stdout.isatty():
        message = "Parquet is nothing to look at"
        raise QueryError(message, fix="send it into a file: rat query … > rows.parquet")
    whole = open_platform()
    at = find_place(whole, ref)
    inputs = inputs_at(whole, at)

    def register(connection: DuckDBPyConnection, tables: Collection[TableName]) -> None:
        try:
            inputs.resolve(tables)
        except FileNotFoundError as error:
            message = f"what {ref} held was removed since"
            fix = "RAT_RETENTION says for how long the history of main is kept"
            raise NotFoundError(message, fix=fix) from error
        inputs.register(connection)

    with (
        whole.lake.connect() as connection,
        answering(
            connection,
            sql,
            known=readable_tables(whole, inputs),
            register=register,
            readable=whole.settings.warehouse,
        ) as answer,
    ):
        FORMS[form](answer, limit)


def inputs_at(whole: Platform, at: str) -> Inputs:
    """What can be read at one place of the catalog, by the views of the current release."""
    with whole.metadata.transaction() as tx:
        release = releases.current(tx) or 0
    return Inputs(whole, release, at, datetime.now(UTC))


def readable_tables(whole: Platform, inputs: Inputs) -> set[TableName]:
    """Every table there, and every view of the release."""
    with whole.metadata.transaction() as tx:
        outlines = graph.outlines(tx, release=inputs.release)
    views = {each.table for each in outlines if each.is_view}
    return views | set(whole.lake.published(at=inputs.at))


# Which place.


def find_place(whole: Platform, ref: str) -> str:
    """A branch, a tag, `name@commit`, or a commit by its hash or the start of it."""
    names = [each.name for each in whole.lake.refs.references()]
    if ref.partition("@")[0] in names:
        return ref
    commit = find_commit(whole, ref.removeprefix("@"))
    if commit is not None:
        return f"@{commit}"
    guess = nearest(ref, names)
    fix = f"did you mean {guess}?" if guess else f"there is {', '.join(names)}"
    message = f"no branch, tag or commit is called {ref}"
    raise NotFoundError(message, fix=fix)


def find_commit(whole: Platform, start: str) -> str | None:
    """The commit of main whose hash starts so."""
    if len(start) < SHORTEST_HASH:
        return None
    hashes = (commit.hash for commit in whole.lake.refs.history(MAIN))
    return next((each for each in hashes if each.startswith(start.lower())), None)


# In which form.


def cut(rows: Iterator[Row], limit: int) -> Iterator[Row]:
    """The first rows; a note when there are more."""
    if not limit:
        yield from rows
        return
    yield from islice(rows, limit)
    if next(rows, None) is not None:
        note_cut(limit)


def note_cut(limit: int) -> None:
    """Say, beside the rows, that there are more."""
    said = f"rat: these are the first {limit:,} rows; --limit 0 prints all"
    click.echo(said, err=True)


def write_table(answer: Answer, limit: int) -> None:
    """Print a table for people."""
    columns = answer.columns
    print_table(columns, cut(answer.rows(), limit))


def write_csv(answer: Answer, limit: int) -> None:
    """Print CSV with a header; NULL is an empty field."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(answer.columns)
    writer.writerows(map(as_fields, cut(answer.rows(), limit)))


def as_fields(row: Row) -> list[Any]:
    """A row as CSV has it."""
    return [as_field(value) for value in row]


def as_field(value: Any) -> Any:  # noqa: ANN401 - whatever DuckDB holds
    """A value as CSV has it."""
    match value:
        case bool():
            return "true" if value else "false"
        case datetime() | date() | time():
            return value.isoformat()
        case dict() | list() | tuple():
            return json.dumps(as_json(value), ensure_ascii=False)
        case bytes():
            return value.hex()
    return value


def write_json(answer: Answer, limit: int) -> None:
    """Print one array of objects, a row a line."""
    columns = answer.columns
    separator = "[\n"
    for row in cut(answer.rows(), limit):
        line = json.dumps(
            dict(zip(columns, map(as_json, row), strict=True)), ensure_ascii=False
        )
        sys.stdout.write(f"{separator}  {line}")
        separator = ",\n"
    sys.stdout.write("[]\n" if separator == "[\n" else "\n]\n")


def write_parquet(answer: Answer, limit: int) -> None:
    """Write a Parquet file."""
    columns = answer.columns
    reader = answer.connection.to_arrow_reader(BATCH)
    schema = pa.schema(
        [
            field.with_name(name)
            for field, name in zip(reader.schema, columns, strict=True)
        ]
    )
    sink = pa.PythonFile(sys.stdout.buffer, mode="w")
    try:
        with pq.ParquetWriter(sink, schema) as writer:
            for batch in first_batches(reader, limit):
                writer.write_batch(batch.rename_columns(columns))
    except pa.ArrowNotImplementedError as error:
        message = f"Parquet cannot hold this: {error}"
        raise QueryError(message, fix="cast that column in the query") from error


def first_batches(
    batches: Iterable[pa.RecordBatch], limit: int
) -> Iterator[pa.RecordBatch]:
    """The first rows, batch by batch; a note when there are more."""
    left = limit
    for batch in batches:
        if limit and batch.num_rows > left:
            yield batch.slice(0, left)
            note_cut(limit)
            return
        left -= batch.num_rows
        yield batch


FORMS: Mapping[str, Callable[[Answer, int], None]] = {
    "table": write_table,
    "csv": write_csv,
    "json": write_json,
    "parquet": write_parquet,
}
