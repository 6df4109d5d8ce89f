"""A pipeline folder, and what it means.

A source is a pipeline's files as text, wherever they come from; a spec is all that they say,
parsed once at publish and stored, so that loading a thousand pipelines reads no file.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from rat_resources.annotations import read_header
from rat_resources.columns import (
    SEVERITIES,
    Column,
    ColumnTest,
    describe_test,
    name_of_test,
    offenders_query,
    personal_names,
)
from rat_resources.configuration import (
    KEYS,
    WITHOUT_EFFECT,
    Configuration,
    PipelineConfig,
    Place,
    read_configuration,
)
from rat_resources.errors import Problem
from rat_resources.hashes import hash_of
from rat_resources.mentions import CALLS, Mentions, Zone
from rat_resources.names import (
    LAYERS,
    TableName,
    as_name,
    dagster_name,
    is_name,
    nearest,
)
from rat_resources.scripts import read_script
from rat_resources.statements import Query, read_query, strip_comments
from rat_resources.templates import (
    GUARD,
    HELPERS,
    WORDS,
    RenderContext,
    author_line,
    read_template,
    render_problem,
)

SQL, PYTHON, CONFIG, TESTS = (
    "pipeline.sql",
    "pipeline.py",
    "config.yaml",
    "tests/quality/",
)
CODE_FILES: dict[str, Literal["sql", "python"]] = {SQL: "sql", PYTHON: "python"}
# Of its code a pipeline shows this much; a thousand of them are loaded at once.
EXCERPT_BYTES = 4_000
TEST_KEYS = ("description", "severity", "tags", "remediation")


@dataclass(frozen=True)
class PipelineSource:
    """The files of one pipeline, by their path inside its folder."""

    table: TableName
    files: Mapping[str, str]
    folder: str = ""  # how problems name the folder

    @property
    def type(self) -> Literal["sql", "python"]:
        """The language of its code."""
        return CODE_FILES[self.code_file]

    @property
    def code_file(self) -> str:
        """The file that makes the table."""
        return next((name for name in CODE_FILES if name in self.files), SQL)

    @property
    def code(self) -> str:
        """The text that makes the table."""
        return self.files.get(self.code_file, "")

    @property
    def test_files(self) -> list[str]:
        """The quality tests, in order."""
        return sorted(name for name in self.files if is_test_file(name))

    def template(self, test: "QualityTest") -> str:
        """The template of a quality test's query."""
        return test.template or self.files[test.path]

    def path(self, name: str) -> str:
        """How problems name the file *name*."""
        return f"{self.folder or pipeline_folder(self.table)}/{name}"


def pipeline_folder(table: TableName) -> str:
    """Where the pipeline of *table* lives in a store or a tree."""
    return f"{table.namespace}/pipelines/{table.layer}/{table.name}"


def is_test_file(name: str) -> bool:
    """Whether *name* is a quality test's path inside a pipeline folder."""
    return (
        name.startswith(TESTS)
        and name.endswith(".sql")
        and "/" not in name.removeprefix(TESTS)
    )


@dataclass(frozen=True)
class QualityTest:
    """A query for offenders, and what to do about them."""

    name: str
    path: str  # inside the pipeline's folder
    description: str = ""
    severity: str = "error"
    tags: tuple[str, ...] = ()
    remediation: str = ""
    refs: tuple[TableName, ...] = ()
    # A test that config.yaml asks for has no file, but names columns and has its query here.
    columns: tuple[tuple[str, str], ...] = ()  # each with its table
    template: str = ""
    guard: str = ""  # what it guards; it looks at what the run changed, by no query

    def to_json(self) -> dict[str, Any]:
        """A document that `from_json` reads back."""
        return asdict(self) | {
            "tags": list(self.tags),
            "refs": [str(ref) for ref in self.refs],
            "columns": [list(each) for each in self.columns],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "QualityTest":
        """The test that `to_json` wrote."""
        read = {
            "tags": tuple(document["tags"]),
            "refs": tuple(TableName.parse(ref) for ref in document["refs"]),
            "columns": tuple((t, name) for t, name in document.get("columns", ())),
        }
        return cls(**{**document, **read})


SCHEMA_CHANGE = "schema_change"  # the check, and what it guards
WATCHED = QualityTest(
    SCHEMA_CHANGE,
    CONFIG,
    description="A run leaves the columns as they are; of others it says who reads them",
    severity="warn",
    guard=SCHEMA_CHANGE,
)


@dataclass(frozen=True)
class PipelineSpec:
    """All that a pipeline's files say."""

    table: TableName
    type: Literal["sql", "python"]
    config: PipelineConfig
    automation: str  # eager or none
    code_version: str  # changes with whatever changes the output
    refs: tuple[TableName, ...] = ()
    zones: tuple[Zone, ...] = ()
    reads_this: bool = False
    uses_watermark: bool = False
    tests: tuple[QualityTest, ...] = ()
    excerpt: str = ""  # its code, as much as Dagster shows of it
    hand_written: str = ""  # file:function, where no folder but a function makes it

    @property
    def description(self) -> str:
        """What the table is, in the author's words."""
        return self.config.description

    @property
    def owner(self) -> str:
        """Whom to ask."""
        return self.config.owner

    @property
    def is_view(self) -> bool:
        """Whether it owns no files and is its query wherever it is read."""
        return self.config.materialized == "view"

    @property
    def code_file(self) -> str:
        """The file that makes the table."""
        return SQL if self.type == "sql" else PYTHON

    @property
    def watch(self) -> QualityTest | None:
        """What tells of columns that change, where no contract does, and no test is called so."""
        named = any(dagster_name(test.name) == SCHEMA_CHANGE for test in self.tests)
        return None if self.is_view or named else WATCHED

    @property
    def checks(self) -> tuple[QualityTest, ...]:
        """What Dagster shows as checks: the tests, and what RAT watches unasked."""
        return (*self.tests, *((self.watch,) if self.watch else ()))

    @property
    def test_refs(self) -> tuple[TableName, ...]:
        """What only its tests read."""
        read = {ref for test in self.tests for ref in test.refs}
        return tuple(sorted(read - {*self.refs, self.table}))

    def to_json(self) -> dict[str, Any]:
        """A document that `from_json` reads back."""
        return {
            "table": str(self.table),
            "type": self.type,
            "config": json.loads(json.dumps(asdict(self.config))),
            "automation": self.automation,
            "code_version": self.code_version,
            "refs": [str(ref) for ref in self.refs],
            "zones": [asdict(zone) for zone in self.zones],
            "reads_this": self.reads_this,
            "uses_watermark": self.uses_watermark,
            "tests": [test.to_json() for test in self.tests],
            "excerpt": self.excerpt,
            "hand_written": self.hand_written,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "PipelineSpec":
        """The spec that `to_json` wrote."""
        return cls(
            **{
                **document,
                "table": TableName.parse(document["table"]),
                "config": PipelineConfig.from_json(document["config"]),
                "refs": tuple(TableName.parse(ref) for ref in document["refs"]),
                "zones": tuple(Zone(**zone) for zone in document["zones"]),
                "tests": tuple(
                    QualityTest.from_json(each) for each in document["tests"]
                ),
            }
        )


@dataclass(frozen=True)
class Parsed:
    """A source, what it means as far as that is clear, and all that is wrong with it."""

    source: PipelineSource
    spec: PipelineSpec
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()  # what may be published, and should not stay
    places: Mapping[str, Place] = field(default_factory=dict)  # of config keys
    ref_places: Mapping[TableName, Place] = field(default_factory=dict)
    zone_places: Mapping[Zone, Place] = field(default_factory=dict)
    function: Place | None = None  # where what is written by hand begins

    @cached_property
    def code_place(self) -> Place:
        """Where to point when no line is to blame."""
        return self.function or Place(self.source.path(self.source.code_file), 1)


def parse_pipeline(
    source: PipelineSource, *, mentions: Mentions | None = None, hand_written: str = ""
) -> Parsed:
    """Read everything that *source* says; nothing stops at the first problem.

    What a *hand_written* asset mentions its decorator says, not its code.
    """
    path = source.path(source.code_file)
    header = read_header(source.code, path=path, language=source.type, known=KEYS)
    configuration = read_configuration(
        header.annotations,
        code_path=path,
        config_path=source.path(CONFIG),
        config_text=source.files.get(CONFIG),
        namespace=source.table.namespace,
    )
    config = configuration.config
    if mentions is None:
        mentions = read_code(source, config=config)
    guarded = configuration.places.get("guard")
    tests = [
        *(read_test(source, name) for name in source.test_files),
        *read_column_tests(source, config.columns),
        *read_guards(config, line=guarded.line if guarded else 1),
        *read_contract(config, place=configuration.places.get("contract")),
    ]
    problems = [
        *check_files(source),
        *header.problems,
        *configuration.problems,
        *worth_saying(mentions.problems, configuration.config),
        *check_usage(source, configuration, mentions),
        *check_charts(configuration),
        *(problem for each in tests for problem in each.problems),
        *check_test_names(source, tests),
    ]
    spec = make_spec(
        source, configuration.config, mentions, [each.test for each in tests]
    )
    return Parsed(
        source,
        replace(spec, hand_written=hand_written),
        problems=tuple(dict.fromkeys(problems)),
        warnings=()
        if problems
        else tuple(warn_of_empty_table(source, configuration.config)),
        places=configuration.places,
        ref_places=ref_places(source, mentions, tests),
        zone_places={zone: Place(path, line) for zone, line in mentions.zones},
    )


def worth_saying(
    problems: Iterable[Problem], config: PipelineConfig
) -> Iterator[Problem]:
    """*problems*, without a missing guard where the watermark itself is missing."""
    for problem in problems:
        if config.watermark_column or problem.fix != GUARD:
            yield problem


def make_spec(
    source: PipelineSource,
    config: PipelineConfig,
    mentions: Mentions,
    tests: Iterable[QualityTest],
) -> PipelineSpec:
    """Put together what was read."""
    return PipelineSpec(
        table=source.table,
        type=source.type,
        config=config,
        automation=config.automation or default_automation(config, mentions),
        code_version=code_version(source, config),
        refs=tuple(ref for ref in mentions.tables if ref != source.table),
        zones=tuple(sorted(zone for zone, _ in mentions.zones)),
        reads_this=mentions.reads_this or source.table in mentions.tables,
        uses_watermark=mentions.uses_watermark,
        tests=tuple(tests),
        excerpt=truncate(source.code, EXCERPT_BYTES),
    )


def truncate(text: str, limit: int) -> str:
    """*text*, or as much of it as fits into *limit* bytes and how much is missing."""
    encoded = text.encode()
    if len(encoded) <= limit:
        return text
    kept = encoded[:limit].decode(errors="ignore")
    missing = len(text) - len(kept)
    return f"{kept}\n… truncated, {missing:,} of {len(text):,} characters left out"


def default_automation(config: PipelineConfig, mentions: Mentions) -> str:
    """Follow the tables that it reads, unless it has a clock or an event of its own."""
    follows = mentions.refs and not config.schedules and not config.triggers
    return "eager" if follows else "none"


def code_version(source: PipelineSource, config: PipelineConfig) -> str:
    """A hash of what changes the output: the code without its comments, and what steers it."""
    steering = {
        key: v for key, v in asdict(config).items() if key not in WITHOUT_EFFECT
    }
    document = {"type": source.type, "code": bare_code(source), "config": steering}
    return hash_of(document)


def bare_code(source: PipelineSource) -> str:
    """The code without comments and without blanks that change nothing."""
    code = (
        strip_comments(source.code)
        if source.type == "sql"
        else strip_header(source.code)
    )
    return without_blank_lines(code)


def bare_query(source: PipelineSource, test: QualityTest) -> str:
    """The query of a test without comments and without blanks that change nothing."""
    if test.guard:
        return ""
    return without_blank_lines(strip_comments(source.template(test)))


def without_blank_lines(code: str) -> str:
    """*code* without empty lines, and without blanks at the ends of lines."""
    lines = (line.rstrip() for line in code.splitlines())
    return "\n".join(line for line in lines if line)


def strip_header(code: str) -> str:
    """A script without its leading comments."""
    lines = code.splitlines()
    first = next((n for n, line in enumerate(lines) if not is_remark(line)), len(lines))
    return "\n".join(lines[first:])


def is_remark(line: str) -> bool:
    """Whether *line* of a script is blank or a comment."""
    return not line.strip() or line.lstrip().startswith("#")


def ref_places(
    source: PipelineSource, mentions: Mentions, tests: Iterable["ReadTest"]
) -> dict[TableName, Place]:
    """Where each table is mentioned first, in the code before the tests."""
    places = {
        table: Place(source.path(source.code_file), line)
        for table, line in mentions.refs
    }
    for each in tests:
        for table, line in each.mentions.refs:
            at = Place(source.path(each.test.path), line)
            places.setdefault(table, at)
    return places


# The files.


def check_files(source: PipelineSource) -> Iterator[Problem]:
    """Files that are missing, too many, or where nobody reads them."""
    code_files = [name for name in CODE_FILES if name in source.files]
    if not code_files:
        yield missing_code(source)
    if len(code_files) > 1:
        what = f"there is a {SQL} beside it, and a pipeline is one file"
        yield Problem(source.path(PYTHON), 1, what, "remove one of the two")
    for name in sorted(source.files):
        is_the_code = not code_files and name == likely_code(source)
        if name not in (*CODE_FILES, CONFIG) and not is_test_file(name):
            yield from () if is_the_code else check_stray(source, name)


def missing_code(source: PipelineSource) -> Problem:
    """The problem of a pipeline without code, or with its code under another name."""
    if name := likely_code(source):
        right = SQL if name.endswith(".sql") else PYTHON
        return Problem(
            source.path(name), 1, "nobody reads this file", f"rename it to {right}"
        )
    return Problem(source.path(SQL), 1, "this file is missing", f"add it, or {PYTHON}")


def likely_code(source: PipelineSource) -> str | None:
    """The one file beside the tests that looks like code."""
    found = [
        name
        for name in source.files
        if name.endswith((".sql", ".py")) and "/" not in name
    ]
    return found[0] if len(found) == 1 else None


def check_stray(source: PipelineSource, name: str) -> Iterator[Problem]:
    """A file that looks as if it should mean something, and is not read."""
    stem = name.rpartition("/")[2]
    if name.startswith("tests/") and name.endswith(".sql"):
        yield Problem(
            source.path(name), 1, "nobody runs this test", f"move it to {TESTS}{stem}"
        )
    elif guess := nearest(name.lower(), (*CODE_FILES, CONFIG)):
        yield Problem(
            source.path(name), 1, "nobody reads this file", f"did you mean {guess}?"
        )


# The code.


def read_code(source: PipelineSource, *, config: PipelineConfig) -> Mentions:
    """What the code mentions, and what is wrong with it."""
    path, namespace = source.path(source.code_file), source.table.namespace
    if source.code_file not in source.files:
        return Mentions()
    if source.type == "python":
        return read_script(source.code, path=path, namespace=namespace)
    mentions = read_template(source.code, path=path, namespace=namespace)
    if mentions.problems:
        return mentions
    strategy = config.merge_strategy
    return with_problems(
        mentions,
        check_sql(
            source.code,
            path=path,
            table=source.table,
            mentions=mentions,
            strategy=strategy,
        ),
    )


def with_problems(mentions: Mentions, problems: Iterable[Problem]) -> Mentions:
    """*mentions* with *problems* added, each once."""
    return Mentions(
        mentions.refs,
        mentions.zones,
        mentions.reads_this,
        mentions.uses_watermark,
        tuple(dict.fromkeys((*mentions.problems, *problems))),
    )


def check_sql(
    template: str, *, path: str, table: TableName, mentions: Mentions, strategy: str
) -> Iterator[Problem]:
    """Render a first and a later run, and let DuckDB parse them."""
    zones = {zone: f"/landing/{zone.name}" for zone, _ in mentions.zones}
    first = RenderContext(table, merge_strategy=strategy, landing_zones=zones)
    later = RenderContext(
        table,
        merge_strategy=strategy,
        table_exists=True,
        watermark_value="2000-01-01 00:00:00",
        landing_zones=zones,
    )
    known = {table, *mentions.tables}
    for context in (first, later):
        rendered = render_problem(template, path=path, context=context)
        if isinstance(rendered, Problem):
            yield rendered
            continue
        for what, fix, line in check_query(
            read_query(rendered), known=known, own=table
        ):
            yield Problem(
                path,
                author_line(template, path=path, context=context, line=line),
                what,
                fix,
            )


def warn_of_empty_table(
    source: PipelineSource, config: PipelineConfig
) -> Iterator[Problem]:
    """A watermark that only `is_incremental()` guards: an empty table exists and has none."""
    if source.type == "python":
        return
    path, table = source.path(source.code_file), source.table
    mentions = read_template(source.code, path=path, namespace=table.namespace)
    context = RenderContext(
        table,
        merge_strategy=config.merge_strategy,
        table_exists=True,
        landing_zones={zone: f"/landing/{zone.name}" for zone, _ in mentions.zones},
    )
    rendered = render_problem(source.code, path=path, context=context)
    if isinstance(rendered, Problem):
        yield rendered


def check_query(
    query: Query, *, known: Collection[TableName], own: TableName
) -> Iterator[tuple[str, str, int]]:
    """What is wrong with one rendering, each with its line there."""
    for mistake in query.mistakes:
        yield mistake.what, mistake.fix, mistake.line + 1
    for function in query.functions:
        if function.name in (*CALLS, *HELPERS):
            what = f"{function.name}() stands outside of Jinja's braces"
            yield what, f"write {{{{ {function.name}(…) }}}}", function.line + 1
    rendered = {str(each): each for each in known}
    for table in query.tables:
        quoted = rendered.get(table.name.strip('"'))
        if table.qualified or quoted is None:
            yield *bare_table(table.name, own=own), table.line + 1
        elif str(quoted) != table.name:
            what = "there are quotes around {{ … }}, which writes its own"
            yield what, f"write {written(quoted, own=own)} without them", table.line + 1


def written(table: TableName, *, own: TableName) -> str:
    """How the pipeline of *own* names *table* in a template."""
    if table == own:
        return "{{ this }}"
    is_near = table.namespace == own.namespace
    name = f"{table.layer}.{table.name}" if is_near else str(table)
    return f"{{{{ ref('{name}') }}}}"


def bare_table(name: str, *, own: TableName) -> tuple[str, str]:
    """The problem of a table that is named without `ref()`."""
    if name in WORDS:
        return f"{name} stands outside of Jinja's braces", f"write {{{{ {name} }}}}"
    what = f"the query names the table {name} without ref(), so nobody knows that it reads it"
    parts = name.split(".")
    if parts == [*own.key][-len(parts) :]:
        return what, "write {{ this }}"
    is_layered = len(parts) > 1 and parts[-2] in LAYERS
    return what, f"write {{{{ ref('{name if is_layered else 'layer.name'}') }}}}"


def check_usage(
    source: PipelineSource, configuration: Configuration, mentions: Mentions
) -> Iterator[Problem]:
    """What the code uses that the configuration does not allow, and the other way round."""
    config, path = configuration.config, source.path(source.code_file)
    if mentions.uses_watermark and not config.watermark_column:
        yield Problem(
            path,
            find_line(source.code, "watermark_value"),
            "watermark_value is used, but no watermark_column says what it is the greatest of",
            f"add @watermark_column: COLUMN, and {GUARD}",
        )
    if source.table in mentions.tables and source.type == "sql":
        line = mentions.line(source.table)
        yield Problem(
            path, line, "the pipeline reads its own table by ref()", "write {{ this }}"
        )
    if config.automation == "eager" and not mentions.refs:
        at = configuration.places["automation"]
        what = "automation eager follows upstream tables, and the pipeline reads none by ref()"
        yield Problem(at.path, at.line, what, "remove it, or add schedules or triggers")
    if config.materialized == "view":
        at = configuration.places["materialized"]
        for use, fix in view_misuses(source, mentions):
            yield Problem(at.path, at.line, f"a view {use}", fix)


def view_misuses(
    source: PipelineSource, mentions: Mentions
) -> Iterator[tuple[str, str]]:
    """What a view cannot do, because it is only a query inside other queries."""
    table = "write materialized: table"
    if source.type == "python":
        yield "is a query, and this pipeline is a script", table
    if mentions.reads_this or source.table in mentions.tables:
        yield "has no rows of its own to read", table
    if mentions.zones:
        yield "cannot read a landing zone: its files are consumed by one run", table
    if mentions.uses_watermark:
        yield "has no watermark", table


def find_line(text: str, word: str) -> int:
    """The first line that holds *word* outside of SQL comments."""
    lines = strip_comments(text).splitlines()
    return next((n for n, line in enumerate(lines, start=1) if word in line), 1)


# Quality tests.


def check_charts(configuration: Configuration) -> Iterator[Problem]:
    """Charts that would show what is in a column with personal data."""
    config = configuration.config
    personal = personal_names(config.columns)
    for chart in config.charts:
        for name in chart.shown:
            if name.casefold() in personal:
                place = configuration.places["charts"]
                what = f"chart {chart.title!r} shows {name}, which is personal data"
                fix = "name another column, or aggregate it"
                yield Problem(place.path, place.line, what, fix)


@dataclass(frozen=True)
class ReadTest:
    """A quality test as it was read."""

    test: QualityTest
    mentions: Mentions = field(default_factory=Mentions)
    problems: tuple[Problem, ...] = ()
    line: int = 1


def read_test(source: PipelineSource, name: str) -> ReadTest:
    """Read one quality test."""
    text, path = source.files[name], source.path(name)
    header = read_header(text, path=path, language="sql", known=TEST_KEYS)
    said = {each.key: each for each in header.annotations}
    problems = list(header.problems)
    severity = "error"
    if "severity" in said:
        word, line = said["severity"].value, said["severity"].line
        severity = SEVERITIES.get(word, "error")
        if word not in SEVERITIES:
            guess = nearest(word.lower(), SEVERITIES)
            fix = f"did you mean {guess}?" if guess else "write error or warn"
            problems.append(
                Problem(path, line, f"severity: {word!r} is not known", fix)
            )
    mentions = read_template(text, path=path, namespace=source.table.namespace)
    problems += mentions.problems
    if not mentions.problems:
        problems += check_test(text, path=path, table=source.table, mentions=mentions)
    test = QualityTest(
        name=name.removeprefix(TESTS).removesuffix(".sql"),
        path=name,
        description=said["description"].value if "description" in said else "",
        severity=severity,
        tags=read_tags(said["tags"].value) if "tags" in said else (),
        remediation=said["remediation"].value if "remediation" in said else "",
        refs=mentions.tables,
    )
    return ReadTest(test, mentions, tuple(dict.fromkeys(problems)))


def check_test(
    text: str, *, path: str, table: TableName, mentions: Mentions
) -> Iterator[Problem]:
    """What is wrong with the query of a test."""
    for zone, line in mentions.zones:
        what = f"a test reads tables, and {zone.name} is a landing zone"
        yield Problem(path, line, what, "compare with a bronze table")
    if mentions.uses_watermark:
        line = find_line(text, "watermark_value")
        yield Problem(
            path, line, "a test has no watermark_value", "write the condition in SQL"
        )
    if not mentions.zones and not mentions.uses_watermark:
        yield from check_sql(
            text, path=path, table=table, mentions=mentions, strategy="full_refresh"
        )


def read_tags(value: str) -> tuple[str, ...]:
    """The tags in `a, B`: trimmed, in lower case, each once."""
    tags = (tag.strip().lower() for tag in value.split(","))
    return tuple(dict.fromkeys(tag for tag in tags if tag))


def read_column_tests(
    source: PipelineSource, columns: Iterable[Column]
) -> Iterator[ReadTest]:
    """The tests that config.yaml asks for, column by column."""
    for column in columns:
        for test in column.tests:
            yield read_column_test(source, column.name, test)


def read_column_test(source: PipelineSource, column: str, said: ColumnTest) -> ReadTest:
    """A test of a column as the quality test that it is."""
    path, table, line = source.path(CONFIG), source.table, said.line
    template = offenders_query(column, said)
    mentions = read_template(template, path=path, namespace=table.namespace)
    problems = list(mentions.problems)
    if said.where and not problems:
        problems += check_test(template, path=path, table=table, mentions=mentions)
    columns = [(str(table), column)]
    if said.to:
        columns.append((said.to, said.to_column))
    test = QualityTest(
        name=name_of_test(column, said),
        path=CONFIG,
        description=describe_test(column, said),
        severity=said.severity,
        remediation=said.remediation,
        refs=mentions.tables,
        columns=tuple(columns),
        template=template,
    )
    return ReadTest(
        test,
        replace(mentions, refs=tuple((ref, line) for ref, _ in mentions.refs)),
        # Lines of the query are nobody's: its author wrote but the condition.
        tuple(
            Problem(
                path, line, f"columns: {column}: {said.kind}: {each.what}", each.fix
            )
            for each in problems
        ),
        line,
    )


def read_guards(config: PipelineConfig, *, line: int) -> Iterator[ReadTest]:
    """What a guard checks, as tests."""
    for name, description in config.guard.checks:
        test = QualityTest(
            f"guard_{name}",
            CONFIG,
            description=description,
            remediation="Look at what it changed, then `rat run … --accept-changes`",
            guard=name,
        )
        yield ReadTest(test, line=line)


def read_contract(config: PipelineConfig, *, place: Place | None) -> Iterator[ReadTest]:
    """The contract, as the test that a run does not pass which changes a column."""
    if config.contract == "enforced":
        test = replace(
            WATCHED,
            description="A run adds, drops, renames and changes no column",
            severity="error",
            remediation="Look at who reads them, then `rat run … --accept-changes`",
        )
        yield ReadTest(test, line=place.line if place else 1)


def check_test_names(
    source: PipelineSource, tests: Sequence[ReadTest]
) -> Iterator[Problem]:
    """Tests whose names are no names, or too alike for Dagster."""
    seen: dict[str, QualityTest] = {}
    for each in tests:
        test, path = each.test, source.path(each.test.path)
        if not is_name(test.name):
            what = f"{test.name!r} is no name for a test"
            name = as_name(test.name)
            fix = "use lower-case letters, digits, _ and -, starting with a letter"
            if test.template:
                fix = f"give it one: name: {name or 'NAME'}"
            elif name:
                fix = f"rename it to {name}.sql"
            yield Problem(path, each.line, what, fix)
        if dagster_name(test.name) == SCHEMA_CHANGE and not test.guard:
            what = f"{test.name} is what RAT's own check of every table is called"
            yield Problem(path, each.line, what, "give the test another name")
            continue
        other = seen.setdefault(test.name.replace("-", "_"), test)
        if other is test:
            continue
        if other.name == test.name:
            what = f"{test.name} is the name of another test, in {other.path}"
            fix = "remove one of the two, or give it a name: {…: {name: …}}"
        else:
            what = (
                f"{test.name} and {other.name} differ only by - and _, "
                "which are one name in Dagster"
            )
            fix = "rename one of the two"
        yield Problem(path, each.line, what, fix)
