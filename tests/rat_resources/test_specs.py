"""What a pipeline folder means, and everything that can be wrong with one."""

import json
from pathlib import Path

import pytest

from rat_resources.configuration import Partition, Schedule, Trigger
from rat_resources.mentions import Zone
from rat_resources.names import TableName
from rat_resources.specs import Parsed, PipelineSource, PipelineSpec, parse_pipeline
from rat_resources.trees import read_tree

TABLE = TableName("nyc", "silver", "flights")
DEMO = Path(__file__).parents[2] / "examples" / "nyc_flights"
INCREMENTAL = "-- @merge_strategy: incremental\n-- @unique_key: id\n"


def parse(
    code: str = "SELECT 1 AS a", *, config: str | None = None, **files: str
) -> Parsed:
    """A parsed SQL pipeline; a keyword is a quality test."""
    tests = {f"tests/quality/{name}.sql": text for name, text in files.items()}
    configured = {} if config is None else {"config.yaml": config}
    return parse_pipeline(
        PipelineSource(TABLE, {"pipeline.sql": code, **configured, **tests}, "p")
    )


def parse_script(code: str, *, config: str = "") -> Parsed:
    return parse_pipeline(
        PipelineSource(TABLE, {"pipeline.py": code, "config.yaml": config}, "p")
    )


def problems(parsed: Parsed) -> list[str]:
    return [str(problem) for problem in sorted(parsed.problems)]


def test_everything_that_a_pipeline_says_is_understood() -> None:
    parsed = parse(
        "-- The flights.\n"
        "\n"
        "-- @description: Flights -- as flown\n"
        "-- @merge_strategy: incremental\n"
        "-- @unique_key: id, day\n"
        "-- @watermark_column: loaded_at\n"
        "SELECT * FROM {{ ref('bronze.flights') }}\n"
        "{% if watermark_value %} WHERE a > '{{ watermark_value }}' {% endif %}",
        config=(
            "description: overruled\n"
            "owner: team:data\n"
            "on_empty: keep\n"
            "partition_by:\n"
            "  - {column: day, transform: month}\n"
            "  - {column: id, transform: bucket, width: 16}\n"
            "schedules:\n"
            "  - cron: '0 6 * * *'\n"
            "    timezone: Europe/Berlin\n"
            "triggers:\n"
            "  - {type: landing_zone_upload, zone_name: flights}\n"
        ),
        ids="-- @severity: warning\n-- @tags: Keys, nulls\n-- @description: No id\n"
        "-- @remediation: Ask\nSELECT * FROM {{ this }} JOIN {{ ref('gold.x') }} USING (id)",
    )

    spec = parsed.spec
    assert not parsed.problems
    assert spec.description == "Flights -- as flown"
    assert spec.owner == "team:data"
    assert spec.config.unique_key == ("id", "day")
    assert spec.config.on_empty == "keep"
    assert spec.config.partition_by == (
        Partition("day", "month"),
        Partition("id", "bucket", 16),
    )
    assert spec.config.schedules == (Schedule("0 6 * * *", "Europe/Berlin"),)
    assert spec.config.triggers == (Trigger("landing_zone_upload", "nyc", "flights"),)
    assert spec.refs == (TableName("nyc", "bronze", "flights"),)
    assert spec.uses_watermark
    assert spec.automation == "none"
    (test,) = spec.tests
    assert (test.name, test.severity, test.tags) == ("ids", "warn", ("keys", "nulls"))
    assert (test.description, test.remediation) == ("No id", "Ask")
    assert spec.test_refs == (TableName("nyc", "gold", "x"),)


def test_a_spec_survives_its_json() -> None:
    parsed = parse(
        INCREMENTAL + "SELECT 1 FROM '{{ landing_zone('z', new=true) }}/a.csv'",
        config="schedules: [{cron: '* * * * *'}]\npartition_by: [{column: a}]",
        one="SELECT * FROM {{ ref('gold.x') }}",
    )

    document = json.loads(json.dumps(parsed.spec.to_json()))

    assert PipelineSpec.from_json(document) == parsed.spec
    assert parsed.spec.zones == (Zone("z", new=True),)


@pytest.mark.parametrize(
    ("code", "config", "automation"),
    [
        ("FROM {{ ref('bronze.x') }}", "", "eager"),
        ("SELECT 1", "", "none"),
        ("FROM {{ ref('bronze.x') }}", "automation: none", "none"),
        ("FROM {{ ref('bronze.x') }}", "schedules: [{cron: '* * * * *'}]", "none"),
        (
            "FROM {{ ref('bronze.x') }}",
            "triggers: [{type: landing_zone_upload, zone_name: z}]",
            "none",
        ),
        (
            "FROM {{ ref('bronze.x') }}",
            "automation: eager\nschedules: [{cron: '* * * * *'}]",
            "eager",
        ),
    ],
)
def test_a_pipeline_follows_its_tables_unless_it_says_otherwise(
    code: str, config: str, automation: str
) -> None:
    assert parse(code, config=config).spec.automation == automation


def test_the_code_version_changes_with_the_output_only() -> None:
    version = parse("SELECT 1").spec.code_version

    assert (
        parse("-- @description: one\nSELECT 1  -- one\n").spec.code_version == version
    )
    assert (
        parse("SELECT 1", config="owner: x\nmax_retries: 3").spec.code_version
        == version
    )
    assert parse("SELECT 2").spec.code_version != version
    assert parse("SELECT 1", config="on_empty: fail").spec.code_version != version


def test_a_script_says_what_it_reads() -> None:
    parsed = parse_script(
        "# @description: A script\n"
        "# ref('bronze.no')\n"
        "rows = duckdb_conn.sql(f\"FROM {ref('bronze.x')} WHERE '{watermark_value}'\")\n"
        "path = landing_zone('z', new=True)\n"
        "text = \"ref('bronze.text')\"\n"
        "result = rows if this else None\n",
        config="watermark_column: a",
    )

    assert not parsed.problems
    assert parsed.spec.type == "python"
    assert parsed.spec.description == "A script"
    assert list(map(str, parsed.spec.refs)) == ["nyc.bronze.x"]
    assert parsed.spec.zones == (Zone("z", new=True),)
    assert parsed.spec.reads_this
    assert parsed.spec.uses_watermark


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (
            "result = 1\nref(name)",
            "p/pipeline.py:2: ref() is not called with a constant name, so nobody knows what it "
            "reads; write the name itself: ref('silver.orders')",
        ),
        (
            "result = map(ref, ['bronze.x'])",
            "p/pipeline.py:1: ref() is not called with a constant name, so nobody knows what it "
            "reads; write the name itself: ref('silver.orders')",
        ),
        (
            "result = (\n",
            "p/pipeline.py:1: Python cannot parse this: '(' was never closed; correct the Python",
        ),
        (
            "resul = 1",
            "p/pipeline.py:1: the script never assigns result; "
            "end with result = …, a table, reader, relation or data frame",
        ),
        (
            "# @unique_kee: x\nresult = 1",
            "p/pipeline.py:1: @unique_kee is not known; did you mean @unique_key?",
        ),
    ],
)
def test_what_is_wrong_in_a_script(code: str, problem: str) -> None:
    assert problems(parse_script(code)) == [problem]


@pytest.mark.parametrize(
    ("comment", "problem"),
    [
        ("-- @owners: x", "@owners is not known; did you mean @owner?"),
        ("-- @Owner: x", "@Owner is not known; did you mean @owner?"),
        (
            "-- @author: x",
            "@author is not known; known are archive_landing_zones, automation, charts, columns, "
            "contract, description, guard, materialized, max_retries, merge_strategy, on_empty, "
            "on_schema_change, owner, "
            "partition_by, partition_column, retention, retry_delay_seconds, scd_close_missing, "
            "scd_valid_from, scd_valid_to, schedules, sort_by, target_file_size, triggers, "
            "unique_key, watermark_column, write_mode",
        ),
        ("-- @owner : x", "'@owner : x' is no annotation; write -- @owner: value"),
        ("-- @owner x", "'@owner x' is no annotation; write -- @owner: value"),
        (
            "-- @unique-key: x",
            "'@unique-key: x' is no annotation; write -- @unique_key: value",
        ),
        ("-- @owner:", "'@owner:' is no annotation; write -- @owner: value"),
        (
            "-- @schedules: daily",
            "@schedules cannot be an annotation; write it in config.yaml",
        ),
        (
            "-- @max_retries: few",
            "max_retries: 'few' is no whole number of zero or more; "
            "write a number such as 3",
        ),
        (
            "-- @scd_close_missing: yes",
            "scd_close_missing: 'yes' is neither true nor false; write true or false",
        ),
        ("-- @unique_key: a, a", "unique_key: column a is named twice; name it once"),
        (
            "-- @unique_key: a,,b",
            "unique_key: a column has no name; write column, column",
        ),
        (
            "-- @merge_strategy: incrementall",
            "merge_strategy: 'incrementall' is not known; did you mean incremental?",
        ),
        (
            "-- @merge_strategy: incremental",
            "merge_strategy incremental needs unique_key; "
            "add @unique_key: COLUMN, or unique_key to config.yaml",
        ),
        (
            "-- @merge_strategy: snapshot",
            "merge_strategy snapshot needs partition_column; "
            "add @partition_column: COLUMN, or partition_column to config.yaml",
        ),
        (
            "-- @automation: eager",
            "automation eager follows upstream tables, and the pipeline reads none by ref(); "
            "remove it, or add schedules or triggers",
        ),
    ],
)
def test_what_is_wrong_in_an_annotation(comment: str, problem: str) -> None:
    parsed = parse(f"\n{comment}\nSELECT 1")

    assert problems(parsed) == [f"p/pipeline.sql:2: {problem}"]


def test_an_annotation_stands_once_and_at_the_top() -> None:
    parsed = parse("-- @owner: a\n-- @owner: b\nSELECT 1\n-- @owner: c\n-- @mail: x")

    assert problems(parsed) == [
        "p/pipeline.sql:2: @owner stands here a second time; "
        "keep this one or the one in line 1",
        "p/pipeline.sql:4: @owner comes after the first line of code, where it has no effect; "
        "move it to the comment block at the top of the file",
    ]


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ("owners: x", "1: owners is not known; did you mean owner?"),
        (
            "\nowner: x\nowner: y",
            "3: owner stands here a second time; keep this one or the one in line 2",
        ),
        ("owner: 3", "1: owner: 3 is no text; put quotes around it"),
        ("owner:", "1: owner: it has no value; give it one, or remove the line"),
        ("- owner", "1: this is no mapping; write one key: value a line"),
        (
            "owner: [",
            "1: this is no YAML: expected the node content, but found '<stream end>'; "
            "check the indentation, the colons and the quotes",
        ),
        ("unique_key:\n- a\n- 3", "1: unique_key: 3 is no text; put quotes around it"),
        (
            "materialized: views",
            "1: materialized: 'views' is not known; did you mean view?",
        ),
        (
            "max_retries: -1",
            "1: max_retries: -1 is no whole number of zero or more; "
            "write a number such as 3",
        ),
        (
            "max_retries: true",
            "1: max_retries: True is no whole number of zero or more; "
            "write a number such as 3",
        ),
        (
            "sort_by: [day, day desc]",
            "1: sort_by: column day is named twice; name it once",
        ),
        (
            "target_file_size: 12",
            "1: target_file_size: '12' is no size of a file between 1MB and 10GB; "
            "write 256MB, for example",
        ),
        (
            "target_file_size: 10KB",
            "1: target_file_size: '10KB' is no size of a file between 1MB and 10GB; "
            "write 256MB, for example",
        ),
        (
            "partition_by: day",
            "1: partition_by: this is no list; start each item with - column: …",
        ),
        (
            "partition_by:\n- day",
            "2: partition_by: 'day' is no mapping; write - column: …",
        ),
        (
            "partition_by:\n- transform: day",
            "2: partition_by: column is missing; add column: …",
        ),
        (
            "partition_by:\n- column: a\n  transform: weekly",
            "3: partition_by: transform: 'weekly' is not known; "
            "known are identity, year, month, day, hour, bucket, truncate",
        ),
        (
            "partition_by:\n- column: a\n  transform: bucket",
            "2: partition_by: transform bucket needs a width of one or more; add width: 16",
        ),
        (
            "partition_by:\n- column: a\n  width: 3",
            "2: partition_by: transform identity takes no width; remove width",
        ),
        (
            "schedules:\n- cron: '0 25 * * *'",
            "2: schedules: cron: '0 25 * * *' is no five-field cron expression; "
            "write minute hour day month weekday, such as '0 6 * * *'",
        ),
        (
            "schedules:\n- cron: '* * * * * *'",
            "2: schedules: cron: '* * * * * *' is no five-field cron expression; "
            "write minute hour day month weekday, such as '0 6 * * *'",
        ),
        (
            "schedules:\n- cron: '* * * * *'\n  timezone: Europe/Berln",
            "3: schedules: timezone: there is no time zone 'Europe/Berln'; "
            "did you mean Europe/Berlin?",
        ),
        (
            "schedules:\n- cron: '* * * * *'\n- cron: '* * * * *'",
            "3: schedules: this item says the same as an earlier one; remove it",
        ),
        (
            "triggers:\n- type: landing_zone_upload",
            "2: triggers: zone_name is missing; add zone_name: …",
        ),
        (
            "triggers:\n- type: landing_upload\n  zone_name: z",
            "2: triggers: type: 'landing_upload' is not known; "
            "did you mean landing_zone_upload?",
        ),
        (
            "triggers:\n- type: landing_zone_upload\n  zone: z",
            "3: triggers: zone is not known; did you mean zone_name?",
        ),
        (
            "materialized: view\nmerge_strategy: append_only",
            "2: a view keeps no rows, so it cannot have merge_strategy append_only; "
            "remove merge_strategy, or write materialized: table",
        ),
        (
            "merge_strategy: scd2\nunique_key: a\nscd_valid_from: valid_to",
            "3: scd_valid_from and scd_valid_to are both valid_to; give them two names",
        ),
    ],
)
def test_what_is_wrong_in_config_yaml(config: str, problem: str) -> None:
    assert problems(parse(config=config)) == [f"p/config.yaml:{problem}"]


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (
            "SELECT *\nFROM a, b\nWHERE = 1",
            '3: DuckDB cannot parse this: syntax error at or near "="; correct the SQL',
        ),
        ("-- nothing", "1: there is no query in this file; write a SELECT"),
        (
            "SELECT 1;\nSELECT 2",
            "1: there are 2 statements where one query is expected; "
            "keep one SELECT; use WITH for the steps before it",
        ),
        (
            "\nINSERT INTO x VALUES (1)",
            "2: this is no query but INSERT; write one SELECT; RAT writes the table",
        ),
        (
            "SELECT *\nFROM silver.planes",
            "2: the query names the table silver.planes without ref(), so nobody knows that it "
            "reads it; write {{ ref('silver.planes') }}",
        ),
        (
            "WITH a AS (SELECT 1)\nSELECT * FROM A\nJOIN planes ON true",
            "3: the query names the table planes without ref(), so nobody knows that it "
            "reads it; write {{ ref('layer.name') }}",
        ),
        (
            "SELECT * FROM ref('bronze.x')",
            "1: ref() stands outside of Jinja's braces; write {{ ref(…) }}",
        ),
        ("FROM this", "1: this stands outside of Jinja's braces; write {{ this }}"),
        (
            "FROM {{ ref('silver.flights') }}",
            "1: the pipeline reads its own table by ref(); write {{ this }}",
        ),
        (
            "SELECT 1\n{% if watermark_value %}, 2{% endif %}",
            "2: watermark_value is used, but no watermark_column says what it is the greatest of; "
            "add @watermark_column: COLUMN, "
            "and guard it: {% if watermark_value %} … {% endif %}",
        ),
        (
            "-- @watermark_column: a\nSELECT\n'{{ watermark_value }}'",
            "3: watermark_value does not exist before the table has rows; "
            "guard it: {% if watermark_value %} … {% endif %}",
        ),
        (
            f"{INCREMENTAL}SELECT 1\n{{% if is_incremental() %}}\nWHERE WHERE\n{{% endif %}}",
            '5: DuckDB cannot parse this: syntax error at or near "WHERE"; correct the SQL',
        ),
    ],
)
def test_what_is_wrong_in_the_sql(code: str, problem: str) -> None:
    assert problems(parse(code)) == [f"p/pipeline.sql:{problem}"]


@pytest.mark.parametrize(
    "code",
    [
        "FROM 'x/*.parquet'",
        "FROM read_csv('{{ landing_zone('z') }}/**')",
        "FROM '{{ landing_zone('z') }}/a.csv' AS a, range(3)",
        "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) FROM t",
        "SELECT (WITH a AS (SELECT 1) SELECT * FROM a) FROM {{ ref('bronze.x') }} AS a",
        "PIVOT {{ ref('bronze.x') }} ON a IN (1, 2) USING sum(b)",
        "SELECT unnest([1, 2]) AS n, * FROM (VALUES (1)) AS v(a);",
        "SELECT * FROM {{ this }}",
    ],
)
def test_queries_that_are_right(code: str) -> None:
    assert problems(parse(code)) == []


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("FROM {{ this }}", "has no rows of its own to read"),
        (
            "FROM '{{ landing_zone('z') }}/a.csv'",
            "cannot read a landing zone: its files are consumed by one run",
        ),
    ],
)
def test_what_a_view_cannot_do(code: str, what: str) -> None:
    parsed = parse(code, config="materialized: view")

    assert problems(parsed) == [
        f"p/config.yaml:1: a view {what}; write materialized: table"
    ]


@pytest.mark.parametrize(
    ("test", "problem"),
    [
        (
            "-- @severity: erorr\nSELECT 1",
            "1: severity: 'erorr' is not known; did you mean error?",
        ),
        (
            "-- @sevrity: warn\nSELECT 1",
            "1: @sevrity is not known; did you mean @severity?",
        ),
        (
            "SELECT * FROM nyc.silver.flights",
            "1: the query names the table nyc.silver.flights without ref(), so nobody knows that "
            "it reads it; write {{ this }}",
        ),
        (
            "SELECT * FROM '{{ landing_zone('z') }}/a.csv'",
            "1: a test reads tables, and z is a landing zone; compare with a bronze table",
        ),
        (
            "SELECT 1\nWHERE '{{ watermark_value }}'",
            "2: a test has no watermark_value; write the condition in SQL",
        ),
        (
            "SELECT",
            "1: DuckDB cannot parse this: SELECT clause without selection list; correct the SQL",
        ),
    ],
)
def test_what_is_wrong_in_a_quality_test(test: str, problem: str) -> None:
    assert problems(parse(ok=test)) == [f"p/tests/quality/ok.sql:{problem}"]


def test_files_that_nobody_would_read_are_named() -> None:
    files = {
        "pipeline.sql": "SELECT 1",
        "pipeline.py": "result = 1",
        "config.yml": "",
        "tests/x.sql": "SELECT 1",
        "tests/quality/a-b.sql": "SELECT 1",
        "tests/quality/a_b.sql": "SELECT 1",
        "tests/quality/Bad.sql": "SELECT 1",
        "README.md": "anything",
    }

    parsed = parse_pipeline(PipelineSource(TABLE, files, "p"))

    assert problems(parsed) == [
        "p/config.yml:1: nobody reads this file; did you mean config.yaml?",
        "p/pipeline.py:1: there is a pipeline.sql beside it, and a pipeline is one file; "
        "remove one of the two",
        "p/tests/quality/Bad.sql:1: 'Bad' is no name for a test; rename it to bad.sql",
        "p/tests/quality/a_b.sql:1: a_b and a-b differ only by - and _, "
        "which are one name in Dagster; rename one of the two",
        "p/tests/x.sql:1: nobody runs this test; move it to tests/quality/x.sql",
    ]


def test_a_folder_without_code_says_what_is_missing() -> None:
    parsed = parse_pipeline(PipelineSource(TABLE, {"config.yaml": ""}, "p"))

    assert problems(parsed) == [
        "p/pipeline.sql:1: this file is missing; add it, or pipeline.py"
    ]


def test_everything_that_is_wrong_is_said_at_once() -> None:
    parsed = parse(
        "-- @ownr: x\nSELECT * FROM {{ ref(x) }}",
        config="max_retries: -1\nowner: 3\nschedules: [{cron: x}]",
        one="SELECT FROM",
    )

    assert [problem.partition(": ")[0] for problem in problems(parsed)] == [
        "p/config.yaml:1",
        "p/config.yaml:2",
        "p/config.yaml:3",
        "p/pipeline.sql:1",
        "p/pipeline.sql:2",
        "p/pipeline.sql:2",
        "p/tests/quality/one.sql:1",
    ]


def test_a_watermark_that_an_empty_table_lacks_is_a_warning() -> None:
    parsed = parse(
        f"{INCREMENTAL}-- @watermark_column: a\nSELECT 1 AS a\n"
        "{% if is_incremental() %}WHERE a > '{{ watermark_value }}'{% endif %}"
    )

    assert not parsed.problems
    assert list(map(str, parsed.warnings)) == [
        "p/pipeline.sql:5: watermark_value does not exist before the table has rows; "
        "guard it: {% if watermark_value %} … {% endif %}"
    ]


def test_the_demo_is_understood() -> None:
    tree = read_tree(DEMO)

    parsed = [parse_pipeline(source) for source in tree.sources]

    assert not tree.problems
    assert [problem for each in parsed for problem in each.problems] == []
    assert {each.spec.table.layer for each in parsed} == {"bronze", "silver", "gold"}


def test_a_list_says_everything_that_is_wrong_with_it_at_once() -> None:
    parsed = parse(
        config=(
            "schedules:\n"
            "  - {cron: '61 * * * *', timezone: Mars/Base}\n"
            "  - {crn: '0 6 * * *'}\n"
            "triggers:\n"
            "  - {type: file_pattern, zone_name: flights}\n"
        )
    )

    found = problems(parsed)
    # What is misspelt is not missing as well.
    assert [line.split(":")[1] for line in found] == ["2", "2", "3", "5"]
    assert sum("Mars/Base" in line for line in found) == 1
    assert sum("did you mean cron" in line for line in found) == 1
    assert "add pattern" in found[-1]
