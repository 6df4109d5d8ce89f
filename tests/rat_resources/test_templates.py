"""What a template renders to, and where it fails."""

from datetime import UTC, datetime

import pytest

from rat_resources.errors import TemplateError
from rat_resources.mentions import Zone
from rat_resources.names import TableName
from rat_resources.templates import (
    HELPERS,
    RenderContext,
    author_line,
    read_template,
    render,
)

TABLE = TableName("nyc", "silver", "flights")
FIRST = RenderContext(TABLE)


def compiled(template: str, context: RenderContext = FIRST) -> str:
    return render(template, path="pipeline.sql", context=context)


@pytest.mark.parametrize(
    ("template", "sql"),
    [
        ("FROM {{ ref('bronze.x') }}", 'FROM "nyc.bronze.x"'),
        ("FROM {{ ref('other.gold.x-y') }}", 'FROM "other.gold.x-y"'),
        ("FROM {{ this }}", 'FROM "nyc.silver.flights"'),
        ("SELECT 1 ;\n; ", "SELECT 1"),
        ("SELECT 1 -- {{ ref('bronze.x') }}", "SELECT 1"),
        ("SELECT /* {{ nothing } */ 1", "SELECT  1"),
        ("SELECT /* a /* b */ c */ 1", "SELECT  1"),
        ("SELECT '--', \"--\", $$--$$, 1", "SELECT '--', \"--\", $$--$$, 1"),
        ("SELECT 1 {# -- it's #}, 2", "SELECT 1 , 2"),
        ("{% set a = 1 %}SELECT {{ a }}", "SELECT 1"),
        ("{% if watermark_value %}1{% else %}2{% endif %}", "2"),
        ("{% if watermark_value is none %}1{% endif %}", "1"),
        ("{% if watermark_value == none %}1{% endif %}", "1"),
        ("{{ watermark_value or 'x' }}", "x"),
        ("{{ watermark_value | default('x') }}", "x"),
    ],
)
def test_a_template_renders(template: str, sql: str) -> None:
    assert compiled(template) == sql


def test_a_zone_is_the_text_of_its_path_inside_quotes() -> None:
    zones = {Zone("z", new=True): "/it's/here"}
    context = RenderContext(TABLE, landing_zones=zones)

    sql = compiled("FROM '{{ landing_zone('z', new=true) }}/*.csv'", context)

    assert sql == "FROM '/it''s/here/*.csv'"


def test_a_watermark_is_text_inside_quotes() -> None:
    context = RenderContext(TABLE, watermark_value="O'Hare")

    assert compiled("'{{ watermark_value }}'", context) == "'O''Hare'"


def test_the_start_of_the_run_is_an_iso_time() -> None:
    context = RenderContext(TABLE, run_started_at=datetime(2013, 1, 1, tzinfo=UTC))

    assert compiled("{{ run_started_at }}", context) == "2013-01-01T00:00:00+00:00"


@pytest.mark.parametrize(("helper", "strategy"), HELPERS.items())
def test_a_helper_is_true_for_its_strategy_on_a_table_that_is_kept(
    helper: str, strategy: str
) -> None:
    template = f"{{{{ {helper}() }}}}"

    kept = RenderContext(TABLE, merge_strategy=strategy, table_exists=True)
    first = RenderContext(TABLE, merge_strategy=strategy)
    refreshed = RenderContext(
        TABLE, merge_strategy=strategy, table_exists=True, full_refresh=True
    )
    other = RenderContext(TABLE, table_exists=True)

    answers = [compiled(template, each) for each in (kept, first, refreshed, other)]
    assert answers == ["True", "False", "False", "False"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "\n{{ watermark_value }}",
            "pipeline.sql:2: watermark_value does not exist before the table has rows; "
            "guard it: {% if watermark_value %} … {% endif %}",
        ),
        (
            "{{ watermark_value ~ '' }}",
            "pipeline.sql:1: watermark_value does not exist before the table has rows; "
            "guard it: {% if watermark_value %} … {% endif %}",
        ),
        (
            "{{ none }}",
            "pipeline.sql:1: this expression has no value, and SQL has no word None; "
            "give it a default, or test it with {% if … %}",
        ),
        (
            "{{ landing_zone('z') }}",
            "pipeline.sql:1: landing zone z is not among what this run reads; "
            "call landing_zone() with a constant name",
        ),
        (
            "{{ ref('x') }}",
            "pipeline.sql:1: ref('x') names no table; "
            "write ref('layer.name') or ref('namespace.layer.name')",
        ),
        (
            "{{ ''.__class__ }}{{ ''.__class__.__mro__ }}",
            "pipeline.sql:1: a template may not do this: access to attribute '__class__' "
            "of 'str' object is unsafe.; templates are sandboxed; use SQL",
        ),
        (
            "\n{{ 1 / 0 }}",
            "pipeline.sql:2: ZeroDivisionError: division by zero; correct the template",
        ),
        (
            "a\n{% if x %}",
            "pipeline.sql:2: {% if %} is opened here and never closed; "
            "close it with {% endif %}",
        ),
    ],
)
def test_a_template_that_fails_says_where_and_why(template: str, message: str) -> None:
    with pytest.raises(TemplateError) as error:
        compiled(template)

    assert str(error.value) == message


def test_a_rendered_line_is_found_in_the_authors_file() -> None:
    template = (
        "-- a comment\n"
        "{% for column in ['a',\n"
        "                  'b'] %}\n"
        "{{ column }},\n"
        "{% endfor %}\n"
        "wrong\n"
    )
    sql = compiled(template).split("\n")

    lines = [
        author_line(template, path="", context=FIRST, line=sql.index(word) + 1)
        for word in ("a,", "b,", "wrong")
    ]

    assert lines == [4, 4, 6]


def test_dependencies_come_from_the_parsed_template() -> None:
    template = """
    -- {{ ref('bronze.commented') }} {{ watermark_value }}
    /* {{ ref('bronze.blocked') }} */ {# {{ ref('bronze.jinja') }} #}
    SELECT 'ref(''bronze.text'')' FROM {{ ref('bronze.b') }}
    {% if false %} JOIN {{ ref("gold." ~ 'a') }} {% endif %}
    JOIN {{ ref('bronze.b') }} JOIN '{{ landing_zone('z', new=true) }}'
    """

    mentions = read_template(template, path="p", namespace="nyc")

    assert list(map(str, mentions.tables)) == ["nyc.bronze.b", "nyc.gold.a"]
    assert [(str(table), line) for table, line in mentions.refs] == [
        ("nyc.bronze.b", 4),
        ("nyc.gold.a", 5),
    ]
    assert mentions.zones == ((Zone("z", new=True), 6),)
    assert not mentions.uses_watermark
    assert not mentions.problems


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (
            "{% set t = 'bronze.x' %}\n{{ ref(t) }}",
            "p:2: ref() is not called with a constant name, so nobody knows what it reads; "
            "write the name itself: ref('silver.orders')",
        ),
        (
            "{% set f = ref %}{{ f('bronze.x') }}",
            "p:1: ref() is not called with a constant name, so nobody knows what it reads; "
            "write the name itself: ref('silver.orders')",
        ),
        (
            "{{ ref('{{ x }}') }}",
            "p:1: there is Jinja inside the name that ref() is given; "
            "write the name itself: ref('silver.orders')",
        ),
        (
            "{{ ref('a', 'b') }}",
            "p:1: ref() takes one name; write ref('silver.orders')",
        ),
        (
            "{{ ref('bronze.x', version=1) }}",
            "p:1: ref() takes one name and nothing else; write ref('silver.orders')",
        ),
        (
            "{{ ref('tin.x') }}",
            "p:1: ref('tin.x') names no table; "
            "write ref('layer.name') or ref('namespace.layer.name')",
        ),
        (
            "{{ landing_zone('z', old=true) }}",
            "p:1: landing_zone() takes a name and new=true, constant, and nothing else; "
            "write landing_zone('orders', new=true)",
        ),
        (
            "{{ landing_zone('a/b') }}",
            "p:1: landing_zone('a/b') names no zone of this namespace; "
            "write landing_zone('orders')",
        ),
        (
            "{{ watermark_valu }}",
            "p:1: watermark_valu is not known; did you mean watermark_value?",
        ),
        (
            "{% set this = 1 %}",
            "p:1: this already means something in a template; choose another name",
        ),
        (
            "{% include 'x' %}",
            "p:1: a template cannot read another file; "
            "write it out, or make it a pipeline and ref() it",
        ),
        (
            "\n{{ 1 | upperr }}",
            "p:2: Jinja has no filter upperr; did you mean upper?",
        ),
    ],
)
def test_what_a_template_may_not_say(template: str, problem: str) -> None:
    mentions = read_template(template, path="p", namespace="nyc")

    assert list(map(str, mentions.problems)) == [problem]
