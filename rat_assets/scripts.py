"""Python pipelines: a script that reads by `ref()` and leaves its rows in `result`.

The script is trusted code. It runs top to bottom with the injected names of `NAMES`; what it
prints goes to the run's log.
"""

import ast
import io
import linecache
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import duckdb
import pyarrow as pa
from duckdb import DuckDBPyConnection

from rat_resources.configuration import PipelineConfig
from rat_resources.errors import QueryError, RatError
from rat_resources.lake.complaints import complaint, first_line, is_disk_full
from rat_resources.mentions import Call, read_ref
from rat_resources.names import TableName
from rat_resources.templates import identifier

RESULT = "__rat_result"
NAMES = (
    "duckdb_conn",
    "pa",
    "ref",
    "landing_zone",
    "this",
    "run_started_at",
    "is_incremental",
    "config",
    "log",
    "watermark_value",
    "run_id",
    "result",
)


@dataclass(frozen=True)
class ScriptContext:
    """What a script may know about its run."""

    table: TableName
    config: PipelineConfig
    run_id: UUID
    run_started_at: datetime
    is_incremental: bool
    watermark_value: str | None
    landing_zones: Mapping[str, str]
    log: Callable[[str], None]


def run_script(
    code: str, *, path: str, connection: DuckDBPyConnection, context: ScriptContext
) -> str:
    """Run *code* and give the query that selects its result; QueryError names its own line."""
    printed = Printed(context.log)
    names = inject(connection, context, say=printed.say)
    # Tracebacks show the author's lines, though the file is in no folder.
    linecache.cache[path] = (len(code), None, code.splitlines(keepends=True), path)
    try:
        with redirect_stdout(printed):
            exec(compile(code, path, "exec"), names)  # noqa: S102 - the pipeline is this code
        where = f"{path}:{result_line(code)}"
        return select_result(names.get("result"), where=where, connection=connection)
    except (duckdb.InterruptException, QueryError):
        raise
    except (Exception, SystemExit) as error:
        raise explain(error, path=path, code=code) from error
    finally:
        printed.flush()
        linecache.cache.pop(path, None)


def inject(
    connection: DuckDBPyConnection,
    context: ScriptContext,
    *,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """The names that a script finds."""

    def ref(name: str) -> str:
        call = Call("ref", (name,), (), 0)
        return identifier(read_ref(call, namespace=context.table.namespace))

    def landing_zone(name: str, *, new: bool = False) -> str:  # noqa: ARG001 - decided before the run
        return context.landing_zones[name]

    return {
        "__name__": "__rat_pipeline__",
        "duckdb_conn": connection,
        "pa": pa,
        "ref": ref,
        "landing_zone": landing_zone,
        "this": identifier(context.table),
        "run_started_at": context.run_started_at.isoformat(),
        "is_incremental": context.is_incremental,
        "config": context.config,
        "log": ScriptLog(say),
        "watermark_value": context.watermark_value,
        "run_id": str(context.run_id),
        "result": None,
    }


class ScriptLog:
    """The `log` of a script: call it, or use it like a logger."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say

    def __call__(self, message: object, *values: object) -> None:
        """Say *message* in the run's log."""
        self.say(str(message) % values if values else str(message))

    debug = info = warning = error = __call__


class Printed(io.TextIOBase):
    """What a script prints and logs, line by line into the run's log, and only so much of it."""

    MOST_LINES = 1_000
    LONGEST_LINE = 2_000

    def __init__(self, log: Callable[[str], None]) -> None:
        self.log = log
        self.rest = ""
        self.lines = 0

    def write(self, text: str) -> int:
        """Take *text*; a line is said when it is complete."""
        *lines, rest = text.split("\n")
        for line in lines:
            self.say(self.rest + line)
            self.rest = ""
        # Nobody will be shown more than this of it.
        self.rest += rest[: self.LONGEST_LINE + 1 - len(self.rest)]
        return len(text)

    def say(self, line: str) -> None:
        """Say one line, unless there were too many."""
        self.lines += 1
        if self.lines <= self.MOST_LINES:
            is_long = len(line) > self.LONGEST_LINE
            self.log(f"{line[: self.LONGEST_LINE]} …" if is_long else line)
        elif self.lines == self.MOST_LINES + 1:
            self.log(
                f"(printed more than {self.MOST_LINES} lines; the rest is left out)"
            )

    def flush(self) -> None:
        """Say what stands on an unfinished line."""
        if self.rest:
            self.say(self.rest)
            self.rest = ""


def explain(error: BaseException, *, path: str, code: str) -> RatError:
    """An exception as an error that names the author's own line."""
    where = f"{path}:{error_line(error, path=path, code=code)}"
    if isinstance(error, duckdb.Error | MemoryError) or is_disk_full(error):
        said = complaint(error)
        return type(said)(f"{where}: {said.message}", fix=said.fix)
    what = f"{where}: {type(error).__name__}: {first_line(error)}"
    return QueryError(what.rstrip(": "), fix="correct the script")


def error_line(error: BaseException, *, path: str, code: str) -> int:
    """The author's own line that an exception came from."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == path]
    # A lazy result fails when it is read, below none of the author's lines.
    return (own[-1].lineno if own else None) or result_line(code)


def result_line(code: str) -> int:
    """The line that assigns the result, the last one if there are several."""
    names = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)]
    stores = [each for each in names if isinstance(each.ctx, ast.Store)]
    return max((each.lineno for each in stores if each.id == "result"), default=1)


def select_result(result: object, *, where: str, connection: DuckDBPyConnection) -> str:
    """The query that selects a script's result."""
    if result is None:
        message = f"{where}: the script left no result"
        raise QueryError(message, fix="assign a table, frame or relation to `result`")
    if isinstance(result, duckdb.DuckDBPyRelation):
        # A relation of this very connection is drained before the write uses it.
        result.to_table(RESULT)
        if not has_table(connection, RESULT):
            message = f"{where}: result is a relation of another connection"
            raise QueryError(message, fix="make it by duckdb_conn.sql(…)")
        return f"SELECT * FROM {RESULT}"
    if isinstance(result, pa.RecordBatchReader):
        # It may come from this very connection, whose next query would end it.
        with connection.cursor() as other:
            other.register("__rat_reader", result)
            other.execute(f"CREATE TABLE {RESULT} AS SELECT * FROM __rat_reader")
        return f"SELECT * FROM {RESULT}"
    if not hasattr(result, "__arrow_c_stream__") and not isinstance(
        result, pa.RecordBatch
    ):
        message = (
            f"{where}: result is a {type(result).__name__}, which exports no Arrow"
        )
        raise QueryError(
            message,
            fix="assign an Arrow table or reader, a relation, or a pandas or polars frame",
        )
    table = as_table(result)
    refuse_columns(table.column_names, where=where)
    connection.register(RESULT, table)
    return f"SELECT * FROM {RESULT}"


def refuse_columns(names: Sequence[str], *, where: str) -> None:
    """QueryError when there are none, or two of one name: Arrow allows it, no table does."""
    if not names:
        message = f"{where}: result has no columns"
        raise QueryError(message, fix="give it at least one")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        message = f"{where}: result has the column {twice[0]!r} {len(twice)} times"
        raise QueryError(message, fix="rename one of them")


def as_table(result: Any) -> pa.Table:  # noqa: ANN401 - whatever exports Arrow
    """Whatever exports Arrow as a table; of a pandas frame with the index that has a name."""
    if isinstance(result, pa.RecordBatch):
        return pa.Table.from_batches([result])
    names = getattr(getattr(result, "index", None), "names", [])
    if any(name is not None for name in names):
        result = result.reset_index()
    return pa.table(result)


def has_table(connection: DuckDBPyConnection, name: str) -> bool:
    """Whether a connection knows a table."""
    found = "SELECT 1 FROM duckdb_tables() WHERE table_name = ?"
    return connection.execute(found, [name]).fetchone() is not None
