"""What publishing tells somebody who made a mistake; what is current stays as it was."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rat_assets.cli import rat
from rat_resources import releases
from rat_resources.names import NAME_RULE as RULE
from tests.factories import ORDERS, Shop

NOBODY = 65534
BAD = "shop/pipelines/silver/bad/"
CODE, CONFIG, TEST = (
    f"{BAD}pipeline.sql",
    f"{BAD}config.yaml",
    f"{BAD}tests/quality/t.sql",
)
FINE = {CODE: "SELECT 1 AS a"}
GUARD = "guard it: {% if watermark_value %} … {% endif %}"


@pytest.fixture(scope="module", autouse=True)
def _published(shop: Shop) -> None:
    """Three good pipelines are current before the first mistake."""
    shop.publish()
    shop.land("january.csv", "id,customer,amount\n1,ann,10.50\n")
    shop.run()


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """People publish a folder beside them."""
    monkeypatch.chdir(tmp_path)


def write(files: Mapping[str, str], *, folder: str = "project") -> Path:
    """A folder tree of *files*."""
    root = Path(folder)
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def publish(folder: str = "project") -> Result:
    """What `rat publish` says."""
    return CliRunner().invoke(rat, ["publish", folder])


def standing(shop: Shop) -> tuple[object, ...]:
    """All that a refused publish must leave as it was: release, versions, drafts, main."""
    with shop.whole.metadata.transaction() as tx:
        pipelines = [
            (str(each.spec.table), each.version_id) for each in releases.load(tx)
        ]
        number = releases.current(tx)
    store = shop.whole.store
    drafts = {key: store.read(key) for key in store.list("shop/pipelines")}
    return number, pipelines, drafts, shop.main


def case(mistake: str, files: Mapping[str, str], *lines: str) -> object:
    """A mistake, named by a sentence, and the lines that it is told."""
    return pytest.param(files, lines, id=mistake)


CONFIGURATION = [
    case(
        "a misspelt key",
        FINE | {CONFIG: "# who\nownr: x"},
        f"{CONFIG}:2: ownr is not known; did you mean owner?",
    ),
    case(
        "a key twice",
        FINE | {CONFIG: "owner: x\nowner: y"},
        f"{CONFIG}:2: owner stands here a second time; keep this one or the one in line 1",
    ),
    case(
        "values of the wrong type",
        FINE | {CONFIG: "max_retries: many\nowner: [a]\nschedules: daily"},
        f"{CONFIG}:1: max_retries: 'many' is no whole number of zero or more; "
        "write a number such as 3",
        f"{CONFIG}:2: owner: a list is no text; write one text",
        f"{CONFIG}:3: schedules: this is no list; start each item with - cron: …",
    ),
    case(
        "a strategy without its key",
        {CODE: "-- @merge_strategy: incremental\nSELECT 1 AS a"},
        f"{CODE}:1: merge_strategy incremental needs unique_key; "
        "add @unique_key: COLUMN, or unique_key to config.yaml",
    ),
    case(
        "a quote that is never closed",
        FINE | {CONFIG: "description: all\nowner: 'team:data\nmax_retries: 3\n"},
        f"{CONFIG}:2: a quote is opened here and never closed; close it",
    ),
    case(
        "a quote that closes at the next one",
        FINE | {CONFIG: "owner: 'team:data\ndescription: 'all'\n"},
        f"{CONFIG}:1: a quote is opened here and closed in line 2 only; "
        "close it where the value ends",
    ),
    case(
        "a quote inside of quotes",
        FINE | {CONFIG: "owner: 'it's'\n"},
        f"{CONFIG}:1: the value goes on after its closing quote; "
        "inside single quotes, write a quote twice: ''",
    ),
    case(
        "a bracket that is never closed",
        FINE | {CONFIG: "owner: x\nunique_key: [a, b\nmax_retries: 3\n"},
        f"{CONFIG}:2: a [ is opened here and never closed; close it",
    ),
    case(
        "a tab",
        FINE | {CONFIG: "schedules:\n\t- cron: x\n"},
        f"{CONFIG}:2: this line is indented with a tab; indent with blanks",
    ),
    case(
        "a value with a colon",
        FINE | {CONFIG: "description: all: of it\n"},
        f"{CONFIG}:1: a value holds a colon; put quotes around the value",
    ),
    case(
        "a line without a colon",
        FINE | {CONFIG: "description all\nowner: x\n"},
        f"{CONFIG}:2: this line does not fit the one before it; "
        "write key: value in both, starting in the same column",
    ),
    case(
        "a value that needs quotes",
        FINE | {CONFIG: "schedules:\n- cron: * * * * *\n"},
        f"{CONFIG}:2: a value cannot start with *; put quotes around the value",
    ),
    case(
        "a value that YAML has other plans for",
        FINE | {CONFIG: "owner: @data\n"},
        f"{CONFIG}:1: a value cannot start with @; put quotes around the value",
    ),
    case(
        "two documents",
        FINE | {CONFIG: "owner: x\n---\nowner: y\n"},
        f"{CONFIG}:2: a second document begins here; remove the line ---",
    ),
    case(
        "a day that does not exist",
        FINE | {CONFIG: "description: 2020-99-99\n"},
        f"{CONFIG}:1: 2020-99-99 is read as a date, and month must be in 1..12; "
        "put quotes around it",
    ),
    case(
        "a character that nobody sees",
        FINE | {CONFIG: "owner: x\ndescription: a\x07b\n"},
        f"{CONFIG}:2: YAML allows no character U+0007; remove it",
    ),
]

JINJA = [
    case(
        "Jinja that is never closed",
        {CODE: "SELECT *\nFROM {{ ref('bronze.orders')\nWHERE true"},
        f"{CODE}:2: {{{{ is opened here and never closed; close it with }}}}",
    ),
    case(
        "a block that is never closed",
        {CODE: "SELECT 1 AS a\n{% if true %}\nWHERE true\n{{ this }}\n"},
        f"{CODE}:2: {{% if %}} is opened here and never closed; close it with {{% endif %}}",
    ),
    case(
        "a tag that does not exist",
        {CODE: "SELECT 1 AS a\n{% if true %}\n{% endfi %}"},
        f"{CODE}:3: Jinja has no tag endfi; did you mean endif?",
    ),
    case(
        "Jinja inside of a name",
        {CODE: "SELECT *\nFROM {{ ref('{{ this }}') }}"},
        f"{CODE}:2: there is Jinja inside the name that ref() is given; "
        "write the name itself: ref('silver.orders')",
    ),
    case(
        "Jinja inside of Jinja",
        {CODE: "SELECT *\nFROM {{ ref({{ 'bronze.orders' }}) }}"},
        f"{CODE}:2: there is {{{{ inside of {{{{; "
        "inside of braces everything is Jinja: write the name itself",
    ),
    case(
        "a single brace",
        {CODE: "SELECT *\nFROM { ref('bronze.orders') }"},
        f"{CODE}:2: Jinja's braces are two; write {{{{ … }}}}",
    ),
    case(
        "a ref without Jinja",
        {CODE: "SELECT *\nFROM ref('bronze.orders')"},
        f"{CODE}:2: ref() stands outside of Jinja's braces; write {{{{ ref(…) }}}}",
    ),
    case(
        "a ref in quotes",
        {CODE: "SELECT *\nFROM '{{ ref('bronze.orders') }}'"},
        f"{CODE}:2: there are quotes around {{{{ … }}}}, which writes its own; "
        "write {{ ref('bronze.orders') }} without them",
    ),
    case(
        "a ref without a layer",
        {CODE: "SELECT *\nFROM {{ ref('orders') }}"},
        f"{CODE}:2: ref('orders') names no table; "
        "did you mean {{ ref('bronze.orders') }} or {{ ref('silver.orders') }}?",
    ),
    case(
        "a ref to a layer that does not exist",
        {CODE: "SELECT *\nFROM {{ ref('bronz.Orders') }}"},
        f"{CODE}:2: ref('bronz.Orders') names no table; did you mean ref('bronze.orders')?",
    ),
    case(
        "a ref without quotes",
        {CODE: "SELECT *\nFROM {{ ref(bronze.orders) }}"},
        f"{CODE}:2: the name that ref() is given has no quotes; write ref('bronze.orders')",
    ),
    case(
        "a word that templates do not know",
        {CODE: "SELECT *\nFROM {{ reff('bronze.orders') }}"},
        f"{CODE}:2: reff is not known; did you mean ref?",
    ),
    case(
        "a watermark without a column or a guard",
        {CODE: "SELECT 1 AS a\nWHERE 2 > '{{ watermark_value }}'"},
        f"{CODE}:2: watermark_value is used, but no watermark_column says what it is the "
        f"greatest of; add @watermark_column: COLUMN, and {GUARD}",
    ),
    case(
        "a watermark without a guard",
        {
            CODE: "-- @watermark_column: a\nSELECT 1 AS a\nWHERE 2 > '{{ watermark_value }}'"
        },
        f"{CODE}:3: watermark_value does not exist before the table has rows; {GUARD}",
    ),
]

PARSING = "DuckDB cannot parse this: syntax error at or near"
NAME = "is a word of SQL and cannot be a name as it is"
SQL = [
    case(
        "a misspelt first word",
        {CODE: "-- orders\nSELEC 1 AS a"},
        f'{CODE}:2: {PARSING} "SELEC"; did you mean SELECT?',
    ),
    case(
        "a misspelt clause",
        {CODE: "SELECT *\nFORM {{ ref('bronze.orders') }}"},
        f'{CODE}:2: {PARSING} "shop.bronze.orders"; did you mean FROM, not FORM?',
    ),
    case(
        "a parenthesis that is never closed",
        {CODE: "SELECT sum(id\nFROM {{ ref('bronze.orders') }}"},
        f"{CODE}:1: a ( is opened here and never closed; close it",
    ),
    case(
        "a quote in a text",
        {CODE: "SELECT 1 AS a,\n'it's' AS b"},
        f"{CODE}:2: a quote is opened here and never closed; "
        "close it; inside a text, write a quote twice: ''",
    ),
    *(
        case(
            f"a step that is called {word}",
            {CODE: f"WITH\n{word} AS (SELECT 1 AS a)\nSELECT * FROM {word}"},
            f'{CODE}:2: {word} {NAME}; write "{word}" in double quotes, '
            "or choose another name",
        )
        for word in ("at", "full", "window")
    ),
    case(
        "a column that is called as a clause is",
        {CODE: "SELECT id,\n  order\nFROM {{ ref('bronze.orders') }}"},
        f'{CODE}:2: order {NAME}; write "order" in double quotes, or choose another name',
    ),
    *(
        case(
            f"{word} instead of a query",
            {CODE: f"{statement}"},
            f"{CODE}:1: this is no query but {word}; write one SELECT; RAT writes the table",
        )
        for word, statement in {
            "INSTALL": "INSTALL httpfs",
            "PRAGMA": "PRAGMA database_list",
            "CREATE": "CREATE TABLE x AS SELECT 1",
        }.items()
    ),
]

REFERENCES = [
    case(
        "a ref to nothing",
        {CODE: "SELECT *\nFROM {{ ref('bronze.order') }}"},
        f"{CODE}:2: ref('shop.bronze.order') names no pipeline and no table; "
        "did you mean shop.bronze.orders?",
    ),
    case(
        "a ref to another layer",
        {CODE: "SELECT *\nFROM {{ ref('silver.revenue') }}"},
        f"{CODE}:2: ref('shop.silver.revenue') names no pipeline and no table; "
        "did you mean shop.gold.revenue?",
    ),
    case(
        "a circle through what is published",
        {
            "shop/pipelines/bronze/orders/pipeline.sql": "SELECT *\nFROM {{ ref('gold.revenue') }}"
        },
        "shop/pipelines/bronze/orders/pipeline.sql:2: pipelines read each other in a circle: "
        "shop.bronze.orders → shop.gold.revenue → shop.silver.orders → shop.bronze.orders; "
        "remove one of these ref()s",
    ),
    case(
        "its own table by ref",
        {CODE: "SELECT *\nFROM {{ ref('silver.bad') }}"},
        f"{CODE}:2: the pipeline reads its own table by ref(); write {{{{ this }}}}",
    ),
    case(
        "a test that does not compile",
        FINE | {TEST: "SELECT * FROM {{ this }}\nWHER a = 1"},
        f'{TEST}:2: {PARSING} "a"; did you mean WHERE, not WHER?',
    ),
    case(
        "a test of an unknown table",
        FINE | {TEST: "SELECT *\nFROM {{ ref('silver.order') }}"},
        f"{TEST}:2: ref('shop.silver.order') names no pipeline and no table; "
        "did you mean shop.silver.orders?",
    ),
    case(
        "a test of its own table by name",
        FINE | {TEST: "SELECT *\nFROM silver.bad"},
        f"{TEST}:2: the query names the table silver.bad without ref(), "
        "so nobody knows that it reads it; write {{ this }}",
    ),
    case(
        "a table that is named without ref",
        {CODE: "SELECT *\nFROM revenue"},
        f"{CODE}:2: the query names the table revenue without ref(), "
        "so nobody knows that it reads it; write {{ ref('gold.revenue') }}",
    ),
]

FOLDER = "shop/pipelines/silver"
FILES = [
    case(
        "two files for one pipeline",
        FINE | {f"{BAD}pipeline.py": "result = 1"},
        f"{BAD}pipeline.py:1: there is a pipeline.sql beside it, and a pipeline is one file; "
        "remove one of the two",
    ),
    case(
        "code under another name",
        {f"{BAD}bad.sql": "SELECT 1 AS a"},
        f"{BAD}bad.sql:1: nobody reads this file; rename it to pipeline.sql",
    ),
    case(
        "Python that does not compile",
        {f"{BAD}pipeline.py": "x = 1\nresult = (1,\n"},
        f"{BAD}pipeline.py:2: Python cannot parse this: '(' was never closed; "
        "correct the Python",
    ),
    case(
        "Python without a result",
        {f"{BAD}pipeline.py": "resul = 1\n"},
        f"{BAD}pipeline.py:1: the script never assigns result; "
        "end with result = …, a table, reader, relation or data frame",
    ),
    case(
        "a pipeline with a bad name",
        {f"{FOLDER}/Bad Name/pipeline.sql": "SELECT 1 AS a"},
        f"{FOLDER}/Bad Name:1: 'Bad Name' is no name; rename it to bad_name; {RULE}",
    ),
    case(
        "a namespace with a bad name",
        {"Shop/pipelines/silver/bad/pipeline.sql": "SELECT 1 AS a"},
        f"Shop:1: 'Shop' is no name; rename it to shop; {RULE}",
    ),
    case(
        "a layer that does not exist",
        {"shop/pipelines/sliver/bad/pipeline.sql": "SELECT 1 AS a"},
        "shop/pipelines/sliver:1: sliver is no layer; did you mean silver?",
    ),
    case(
        "a zone that expects no type",
        FINE
        | {"shop/landing/orders.yaml": "expected_schema:\n  columns:\n    id: bigit\n"},
        "shop/landing/orders.yaml:3: expected_schema: 'bigit' is no type that DuckDB knows; "
        "write integer, varchar, timestamptz, …",
    ),
    case(
        "a folder with nothing in it",
        {},
        ":1: there is no pipeline here; "
        "publish the folder that holds {namespace}/pipelines/{layer}/{name}/pipeline.sql",
    ),
]


@pytest.mark.parametrize(
    ("files", "lines"), [*CONFIGURATION, *JINJA, *SQL, *REFERENCES, *FILES]
)
def test_a_mistake_is_refused_with_its_place_and_its_fix(
    shop: Shop, files: Mapping[str, str], lines: tuple[str, ...]
) -> None:
    before = standing(shop)
    Path("project").mkdir()
    write(files)

    result = publish()

    problems = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        *(f"project/{line}".replace("/:", ":") for line in lines),
        f"rat: nothing was published; solve {problems}",
    ]
    assert standing(shop) == before


@pytest.mark.parametrize("folder", ["project/shop", "project/shop/pipelines/silver"])
def test_a_folder_inside_of_the_tree_is_met_with_the_tree(
    shop: Shop, folder: str
) -> None:
    before = standing(shop)
    write(FINE)

    result = publish(folder)

    assert result.stderr.splitlines()[0] == (
        f"{folder}:1: there is no pipeline here; did you mean rat publish project?"
    )
    assert standing(shop) == before


def test_gold_that_reads_bronze_is_a_warning(shop: Shop) -> None:
    path = "shop/pipelines/gold/hasty/pipeline.sql"
    write({path: "SELECT *\nFROM {{ ref('bronze.orders') }}"})

    result = publish()

    assert result.exit_code == 0
    assert result.stderr.endswith(
        f"warning: project/{path}:2: gold reads shop.bronze.orders, past the layer between; "
        "let gold read silver or gold\n"
    )
    assert "shop.gold.hasty" in dict(standing(shop)[1])  # type: ignore[call-overload]


def test_the_same_content_twice_is_one_release(shop: Shop) -> None:
    write(ORDERS)
    publish()
    before = standing(shop)

    result = publish()

    assert result.exit_code == 0
    assert (
        result.stdout
        == f"release {before[0]} is current as it is; 3 pipelines unchanged\n"
    )
    assert standing(shop) == before


def test_after_a_mistake_the_corrected_pipeline_is_published_and_runs(
    shop: Shop,
) -> None:
    path = "shop/pipelines/silver/corrected/pipeline.sql"
    write({path: "SELEC id FROM {{ ref('bronze.orders') }}"})
    refused = publish()
    write({path: "SELECT id FROM {{ ref('bronze.orders') }}"})

    published = publish()

    assert (refused.exit_code, published.exit_code) == (1, 0)
    assert published.stdout.endswith("is current\n  created    shop.silver.corrected\n")
    assert shop.run("shop.silver.corrected").succeeded
    assert shop.rows("shop.silver.corrected") == [(1,)]


def test_two_publishes_at_once_become_two_releases(shop: Shop) -> None:
    before = standing(shop)
    folders = ("one", "two")
    for name in folders:
        path = f"shop/pipelines/silver/{name}/pipeline.sql"
        write({path: "SELECT 1 AS a"}, folder=name)
    command = [str(Path(sys.executable).parent / "rat"), "publish"]
    environment = os.environ | shop.whole.settings.environ

    running = [
        subprocess.Popen(
            [*command, name], env=environment, stdout=subprocess.PIPE, text=True
        )
        for name in folders
    ]
    said = [each.communicate(timeout=120)[0] for each in running]

    number, pipelines, *_ = standing(shop)
    assert [each.returncode for each in running] == [0, 0]
    assert number == before[0] + 2  # type: ignore[operator]
    assert {line.split()[1] for line in said} == {str(number), str(before[0] + 1)}  # type: ignore[operator]
    assert {"shop.silver.one", "shop.silver.two"} <= dict(pipelines).keys()  # type: ignore[call-overload]


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that everybody may enter, and nobody in particular who enters it."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        monkeypatch.chdir(folder)
        yield Path(folder)


@pytest.mark.parametrize(
    ("closed", "said"),
    [
        (
            BAD.rstrip("/"),
            "this folder cannot be read: you are not allowed to; chmod -R u+rX",
        ),
        (
            "shop/landing",
            "this folder cannot be read: you are not allowed to; chmod -R u+rX",
        ),
        (
            CODE,
            "this file cannot be read: Permission denied; check its permissions: ls -l",
        ),
    ],
)
@pytest.mark.usefixtures("nobody")
def test_what_cannot_be_read_is_named_and_nothing_is_published(
    shop: Shop, closed: str, said: str
) -> None:
    before = standing(shop)
    path = write(FINE | {"shop/landing/orders.yaml": "owner: x"}) / closed
    path.chmod(0)

    os.seteuid(NOBODY)
    try:
        result = publish()
    finally:
        os.seteuid(0)

    assert result.exit_code == 1
    assert result.stderr.splitlines()[0] == f"{path}:1: {said} {path}"
    assert standing(shop) == before
