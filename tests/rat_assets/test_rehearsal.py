"""What an author sees of a draft before it is published, and that nothing of it stays."""

import json
import signal
from hashlib import sha256

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from rat_assets.actions import preview_job
from rat_assets.cli import rat
from rat_assets.commands.authoring import refuse_script
from rat_assets.drafts import Draft
from rat_resources.errors import QueryError
from rat_resources.names import TableName
from rat_resources.releases import PublishedPipeline
from rat_resources.specs import PipelineSource, parse_pipeline
from rat_resources.wiring import resources
from tests.factories import ORDERS, Shop

# A command pins its settings in the environment for good.

FIRST = "id,customer,amount\n1,ann,10\n2,bob,20\n"
SECOND = "id,customer,amount\n3,cid,30\n"
BRONZE = "shop/pipelines/bronze/orders"
SILVER = "shop/pipelines/silver/orders"
GOLD = "shop/pipelines/gold/revenue"
REVENUE = TableName("shop", "gold", "revenue")


def call(*arguments: object) -> Result:
    """What a call of the command comes to."""
    return CliRunner().invoke(rat, [str(each) for each in arguments])


def everything(shop: Shop) -> dict[str, str]:
    """All that a RAT holds: every row of every table, every file."""
    held = {}
    with shop.whole.metadata.engine.connect() as connection:
        tables = connection.execute(
            text(
                "SELECT format('%I.%I', table_schema, table_name) "
                "FROM information_schema.tables WHERE table_type = 'BASE TABLE' "
                "AND table_schema NOT IN ('pg_catalog', 'information_schema')"
            )
        ).scalars()
        for table in tables.all():
            rows = f"SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {table} AS t"
            held[table] = str(connection.execute(text(rows)).scalar_one())
    for path in shop.whole.settings.home.rglob("*"):
        if path.is_file():
            held[str(path)] = sha256(path.read_bytes()).hexdigest()
    return held


# Compiling.


def test_compile_prints_the_sql_and_nothing_else(open_shop: Shop) -> None:
    result = call("compile", open_shop.folder / SILVER)

    assert result.exit_code == 0
    assert '"shop.bronze.orders"' in result.stdout
    assert "WHERE loaded_at > '20" in result.stdout
    assert "{" not in result.stdout


def test_compile_for_a_full_refresh_knows_no_watermark(open_shop: Shop) -> None:
    result = call("compile", "shop.silver.orders", "--full-refresh")

    assert result.exit_code == 0
    assert "WHERE" not in result.stdout


def test_compile_notes_beside_the_sql_where_landing_files_lie(open_shop: Shop) -> None:
    result = call("compile", "shop.bronze.orders")

    assert f"{open_shop.whole.store.root}/shop/landing/orders/*.csv" in result.stdout
    assert result.stderr.startswith("note: a run reads copies")


def test_compile_of_a_script_says_what_it_reads(open_shop: Shop) -> None:
    code = "result = duckdb_conn.sql(f\"FROM {ref('silver.orders')}\")\n"
    path = open_shop.write("shop/pipelines/gold/copy/pipeline.py", code)

    result = call("compile", path)

    assert result.exit_code == 1
    assert "is Python and has no SQL; it reads shop.silver.orders" in result.stderr
    assert "rat preview" in result.stderr


def test_compile_of_an_asset_written_by_hand_names_its_function() -> None:
    source = PipelineSource(REVENUE, {"pipeline.py": ""})
    parsed = parse_pipeline(source, hand_written="definitions.py:forecast")
    draft = Draft(source, PublishedPipeline.draft(parsed.spec, before=None), 0)

    with pytest.raises(QueryError) as caught:
        refuse_script(draft, "shop.gold.revenue")

    assert caught.value.message == "definitions.py:forecast is Python and has no SQL"
    assert caught.value.fix == (
        "run its function in a test of yours, or rat run shop.gold.revenue"
    )


# Previewing.


def test_a_preview_shows_what_would_become_of_the_table(open_shop: Shop) -> None:
    open_shop.write(
        f"{GOLD}/tests/quality/is_rich.sql",
        "FROM {{ this }} WHERE revenue > 15",
    )
    open_shop.write(
        f"{GOLD}/pipeline.sql",
        "SELECT customer, sum(amount)::DOUBLE AS revenue, max(id) AS newest\n"
        "FROM {{ ref('silver.orders') }} GROUP BY ALL ORDER BY customer",
    )

    result = call("preview", open_shop.folder / GOLD, "--limit", 1, "--json")

    seen = json.loads(result.stdout)
    assert result.exit_code == 1
    assert not seen["would_publish"]
    assert seen["rows"] == [{"customer": "ann", "revenue": 10.0, "newest": 1}]
    assert (seen["rows_returned"], seen["rows_before"], seen["rows_after"]) == (2, 2, 2)
    assert {(each["kind"], each["column"]) for each in seen["schema_changes"]} == {
        ("dropped", "orders"),
        ("replaced", "revenue"),
        ("added", "newest"),
    }
    assert [
        (each["name"], each["verdict"], each["offenders"]) for each in seen["tests"]
    ] == [("schema_change", "warned", 3), ("is_rich", "failed", 1)]


def test_tests_of_a_preview_see_the_table_as_it_would_be(open_shop: Shop) -> None:
    open_shop.land("second.csv", SECOND)
    open_shop.write(
        f"{BRONZE}/tests/quality/has_all.sql",
        "SELECT count(*) AS n FROM {{ this }} HAVING n <> 3",
    )

    result = call("preview", open_shop.folder / BRONZE)

    assert result.exit_code == 0, result.output
    assert "1 row returned" in result.stdout
    assert "on main: 2 rows → 3 (1 inserted, 0 updated, 0 deleted)" in result.stdout
    assert "✔ has_all" in result.stdout
    assert "✔ it would be published" in result.stdout


def test_without_news_a_preview_reads_all_files_as_a_full_refresh(
    open_shop: Shop,
) -> None:
    result = call("preview", open_shop.folder / BRONZE, "--json")

    seen = json.loads(result.stdout)
    assert (seen["rows_returned"], seen["rows_after"]) == (2, 2)
    assert "all landing files" in result.stderr


def test_a_zone_without_files_gives_its_samples(shop: Shop) -> None:
    shop.publish()
    shop.land("_samples/some.csv", SECOND)

    result = call("preview", shop.folder / BRONZE, "--json")

    seen = json.loads(result.stdout)
    assert result.exit_code == 0
    assert seen["rows"][0]["customer"] == "cid"
    assert seen["rows_before"] is None
    assert "samples" in result.stderr


def test_a_zone_with_nothing_says_what_to_do(shop: Shop) -> None:
    shop.publish()

    result = call("preview", shop.folder / BRONZE)

    assert result.exit_code == 1
    folder = "shop/landing/orders"
    store, tree = shop.whole.store.root / folder, shop.folder / folder
    assert (
        f"there is no file in shop/orders; looked in {store}, {tree}/_samples, "
        f"{store}/_samples; put a sample into {tree}/_samples"
    ) in result.stderr


def test_a_draft_is_tried_on_the_samples_of_its_own_tree(open_shop: Shop) -> None:
    open_shop.write("shop/landing/orders/_samples/mine.csv", SECOND)
    open_shop.land("_samples/theirs.csv", FIRST)

    draft = call("preview", open_shop.folder / BRONZE, "--samples", "--json")
    published = call("preview", "shop.bronze.orders", "--samples", "--json")

    assert json.loads(draft.stdout)["files"] == ["shop/orders/mine.csv"]
    assert json.loads(published.stdout)["files"] == ["shop/orders/theirs.csv"]


def test_a_new_project_can_be_tried_at_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.folder.mkdir(exist_ok=True)
    monkeypatch.chdir(shop.folder)
    call("init", "lake")
    monkeypatch.chdir("lake")

    compiled, tried = call("compile", BRONZE), call("preview", BRONZE, "--limit", 3)

    assert compiled.exit_code == 0, compiled.output
    assert tried.exit_code == 0, tried.output
    assert "the table is made anew of samples" in tried.stderr
    assert "Ada" in tried.stdout


def test_a_chart_that_would_stop_the_run_stops_the_preview(open_shop: Shop) -> None:
    chart = "charts:\n- {title: T, kind: bar, x: customer,\n   y: revenu}\n"
    path = open_shop.write(f"{GOLD}/config.yaml", chart)

    result = call("preview", open_shop.folder / GOLD)

    assert result.exit_code == 1
    assert f"{path}:3: chart 'T' names revenu, which is no column" in result.stderr
    assert "did you mean revenue?" in result.stderr


def test_a_chart_that_could_not_be_drawn_is_a_note(open_shop: Shop) -> None:
    query = "SELECT 1 AS a, 2 AS b FROM range(2)"
    open_shop.write(f"{GOLD}/pipeline.sql", query)
    chart = "charts: [{title: T, kind: line, x: a, y: b}]\n"
    open_shop.write(f"{GOLD}/config.yaml", chart)

    result = call("preview", open_shop.folder / GOLD)

    assert result.exit_code == 0
    assert "note: chart 'T': 2 rows share one place" in result.stderr


def test_what_becomes_of_columns_is_said_once(open_shop: Shop) -> None:
    query = "SELECT customer FROM {{ ref('silver.orders') }}"
    open_shop.write(f"{GOLD}/pipeline.sql", query)

    result = call("preview", open_shop.folder / GOLD)

    assert result.output.count("dropped revenue") == 1


def test_a_preview_masks_personal_data(open_shop: Shop) -> None:
    open_shop.write(f"{GOLD}/config.yaml", "columns: {customer: {pii: true}}\n")

    result = call("preview", open_shop.folder / GOLD)

    assert result.exit_code == 0, result.output
    assert "•••" in result.stdout
    assert "ann" not in result.stdout


def test_a_draft_that_was_never_published_can_be_tried(open_shop: Shop) -> None:
    query = "SELECT customer FROM {{ ref('silver.orders') }}"
    path = open_shop.write("shop/pipelines/gold/customers/pipeline.sql", query)

    result = call("preview", path)

    assert result.exit_code == 0, result.output
    assert "no table yet; it would have 2 rows" in result.stdout


def test_a_view_is_tried_as_its_query(open_shop: Shop) -> None:
    query = "-- @materialized: view\nSELECT customer FROM {{ ref('silver.orders') }}"
    path = open_shop.write("shop/pipelines/gold/customers/pipeline.sql", query)
    open_shop.write(
        "shop/pipelines/gold/customers/tests/quality/has_name.sql",
        "FROM {{ this }} WHERE customer IS NULL",
    )

    result = call("preview", path)

    assert result.exit_code == 0, result.output
    assert "2 rows returned" in result.stdout
    assert "✔ has_name" in result.stdout


def test_a_script_is_tried_and_heard(open_shop: Shop) -> None:
    code = (
        "print('hello')\nresult = duckdb_conn.sql(f\"FROM {ref('silver.orders')}\")\n"
    )
    path = open_shop.write("shop/pipelines/gold/copy/pipeline.py", code)

    result = call("preview", path)

    assert result.exit_code == 0, result.output
    assert "hello" in result.stderr
    assert "2 rows returned" in result.stdout


def test_a_failing_query_names_the_line_of_the_working_tree(open_shop: Shop) -> None:
    query = "SELECT customer,\n    nobody\nFROM {{ ref('silver.orders') }}"
    path = open_shop.write(f"{GOLD}/pipeline.sql", query)

    result = call("preview", path)

    assert result.exit_code == 1
    assert f"{path}:2: " in result.stderr
    assert "nobody" in result.stderr


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT 1 AS a, 2 AS a", "2 times"),
        ("SELECT INTERVAL 1 DAY AS a", "interval"),
        ("-- @merge_strategy: incremental\n-- @unique_key: id\nSELECT 1 AS a", "'id'"),
    ],
)
def test_a_result_that_could_not_be_written_is_refused(
    shop: Shop, query: str, said: str
) -> None:
    path = shop.write(f"{GOLD}/pipeline.sql", query)

    result = call("preview", path)

    assert result.exit_code == 1
    assert said in result.stderr.lower()


def test_a_draft_with_mistakes_lists_them_all(shop: Shop) -> None:
    path = shop.write(f"{GOLD}/pipeline.sql", "-- @owne: x\nSELEC 1")

    result = call("preview", path)

    assert result.exit_code == 1
    assert f"{path}:1: " in result.stderr
    assert f"{path}:2: " in result.stderr
    assert "rat: the draft cannot run; solve 2 problems" in result.stderr


def test_a_draft_that_reads_a_draft_is_told_to_publish_it(shop: Shop) -> None:
    shop.publish({name: ORDERS[name] for name in ORDERS if name.startswith(BRONZE)})
    path = shop.write(f"{SILVER}/pipeline.sql", ORDERS[f"{SILVER}/pipeline.sql"])
    gold = shop.write(f"{GOLD}/pipeline.sql", ORDERS[f"{GOLD}/pipeline.sql"])

    never_run, unpublished = call("preview", path), call("preview", gold)

    assert f"{path}:6: shop.bronze.orders is published and has never run" in (
        never_run.stderr
    )
    assert f"{gold}:3: shop.silver.orders is a draft too" in unpublished.stderr
    assert "rat publish" in unpublished.stderr


def test_a_limit_that_is_hit_says_how_to_raise_it(shop: Shop) -> None:
    slow = shop.write(
        f"{GOLD}/pipeline.sql",
        "SELECT sum(a.range * b.range) AS n FROM range(10_000_000) a, range(10_000_000) b",
    )
    big = shop.write(
        "shop/pipelines/gold/big/pipeline.sql",
        "SELECT list(range) AS n FROM range(50_000_000)",
    )

    late = call("preview", slow, "--timeout", "0.5")
    large = call("preview", big, "--memory", "30MB")

    assert "took more than 0.5 s; give it longer with --timeout" in late.stderr
    assert "needs more than 30MB of memory; give it more with --memory" in large.stderr


def test_a_script_that_never_ends_is_stopped(shop: Shop) -> None:
    path = shop.write(f"{GOLD}/pipeline.py", "result = None\nwhile True:\n    pass\n")

    result = call("preview", path, "--timeout", "1")

    assert result.exit_code == 1
    assert "took more than 1 s" in result.stderr


def test_it_is_stopped_where_nobody_may_press_ctrl_c(shop: Shop) -> None:
    path = shop.write(f"{GOLD}/pipeline.py", "result = None\nwhile True:\n    pass\n")
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as `rat … &` has it

    result = call("preview", path, "--timeout", "1")
    left = signal.signal(signal.SIGINT, handler)

    assert "took more than 1 s" in result.stderr
    assert left == signal.SIG_IGN


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("shop.gold.revenu", "did you mean shop.gold.revenue?"),
        ("nowhere", "neither a path nor the name of a pipeline"),
        (".", "is no pipeline and lies in none"),
    ],
)
def test_what_is_no_draft_is_met_with_advice(
    open_shop: Shop, word: str, said: str
) -> None:
    result = call("preview", word)

    assert result.exit_code == 1, open_shop
    assert said in result.stderr


def test_the_same_is_a_job_of_dagster(open_shop: Shop) -> None:
    asked = {"ops": {"preview_pipeline": {"config": {"pipeline": "shop.gold.revenue"}}}}

    result = preview_job.execute_in_process(
        run_config=asked, instance=open_shop.instance, resources=resources()
    )

    (shown,) = [
        event.step_output_data.metadata
        for event in result.all_node_events
        if event.is_successful_output
    ]
    assert "2 rows returned" in str(shown["preview"].value)
    assert "✔ it would be published" in str(shown["preview"].value)


def test_no_value_leaves_the_block_of_text_that_a_preview_is(open_shop: Shop) -> None:
    code = "SELECT '```' AS a"
    open_shop.write("shop/pipelines/bronze/fenced/pipeline.sql", code)
    open_shop.publish({})
    asked = {"pipeline": "shop.bronze.fenced"}

    result = preview_job.execute_in_process(
        run_config={"ops": {"preview_pipeline": {"config": asked}}},
        instance=open_shop.instance,
        resources=resources(),
    )

    (shown,) = [
        event.step_output_data.metadata
        for event in result.all_node_events
        if event.is_successful_output
    ]
    assert str(shown["preview"].value).startswith("````text\n")


# Testing.


def test_published_tests_are_run_on_main(open_shop: Shop) -> None:
    open_shop.write(
        f"{GOLD}/tests/quality/is_rich.sql",
        "-- @remediation: Earn more\nFROM {{ this }} WHERE revenue > 15",
    )
    open_shop.publish({})

    good = call("test", "shop.bronze.*", "shop.silver.orders")
    bad = call("test", "--all", "--json")

    assert good.exit_code == 0, good.output
    assert "✔ amount_is_positive: passed, no offenders" in good.stdout
    assert bad.exit_code == 1
    (verdict,) = json.loads(bad.stdout)["tables"]["shop.gold.revenue"]
    assert verdict["offenders"] == 1
    assert verdict["sample"][0]["customer"] == "bob"


def test_a_table_that_never_ran_cannot_be_tested(shop: Shop) -> None:
    shop.publish()

    result = call("test", "shop.bronze.orders")

    assert result.exit_code == 1
    assert "is not on main yet; rat run shop.bronze.orders" in result.stdout
    assert "fix: Ask the shop" not in result.stdout


# Nothing stays.


def test_nothing_stays_of_anything_that_an_author_tries(open_shop: Shop) -> None:
    open_shop.land("second.csv", SECOND)
    open_shop.write(f"{GOLD}/pipeline.sql", "SELECT 1 AS a, 'x' AS b")
    before = everything(open_shop)

    for arguments in (
        ("compile", "shop.silver.orders"),
        ("compile", open_shop.folder / GOLD),
        ("preview", open_shop.folder / BRONZE),
        ("preview", open_shop.folder / SILVER, "--full-refresh"),
        ("preview", open_shop.folder / GOLD),
        ("preview", "shop.bronze.orders", "--samples"),
        ("test", "--all"),
        ("publish", "--dry-run", open_shop.folder),
        ("publish", "--dry-run"),
    ):
        result = call(*arguments)
        # There are no samples to try.
        assert result.exit_code == (1 if "--samples" in arguments else 0), result.output

    assert everything(open_shop) == before
