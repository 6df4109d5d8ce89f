"""SQL templates: what they mention, and the SQL that they render to.

Jinja is sandboxed and knows `ref`, `this`, `landing_zone`, `watermark_value`, `run_started_at`
and the `is_…()` helpers. SQL comments are gone before Jinja sees the text, so a `ref()` in one
is neither a dependency nor run. A rendered line is the author's line wherever Jinja allows.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from types import TracebackType
from typing import Any

from jinja2 import (
    StrictUndefined,
    Template,
    TemplateSyntaxError,
    UndefinedError,
    meta,
    nodes,
)
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream
from jinja2.sandbox import ImmutableSandboxedEnvironment

from rat_resources.configuration import STRATEGIES
from rat_resources.errors import Problem, TemplateError
from rat_resources.jinja_syntax import syntax_problem
from rat_resources.mentions import (
    CALLS,
    Call,
    Mentions,
    UnclearError,
    Zone,
    read_ref,
    understand,
)
from rat_resources.names import TableName, nearest
from rat_resources.statements import strip_comments, strip_end

# A full refresh is what happens without a helper.
HELPERS = {
    f"is_{strategy}": strategy for strategy in STRATEGIES if strategy != "full_refresh"
}
WORDS = ("ref", "this", "landing_zone", "watermark_value", "run_started_at", *HELPERS)
GUARD = "guard it: {% if watermark_value %} … {% endif %}"


@dataclass(frozen=True)
class RenderContext:
    """What a template may know about the run that renders it."""

    table: TableName
    merge_strategy: str = "full_refresh"
    table_exists: bool = False
    full_refresh: bool = False
    watermark_value: str | None = None
    run_started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    landing_zones: Mapping[Zone, str] = field(default_factory=dict)

    def is_strategy(self, strategy: str) -> bool:
        """Whether this run adds to an existing table by *strategy*."""
        return (
            self.table_exists
            and not self.full_refresh
            and self.merge_strategy == strategy
        )


def render(template: str, *, path: str, context: RenderContext) -> str:
    """The SQL of *template*, one query without a semicolon; TemplateError says where it fails."""
    rendered = render_problem(template, path=path, context=context)
    if isinstance(rendered, Problem):
        message = f"{rendered.path}:{rendered.line}: {rendered.what}"
        raise TemplateError(message, fix=rendered.fix)
    return rendered


def render_problem(
    template: str, *, path: str, context: RenderContext
) -> str | Problem:
    """The SQL of *template*, or why there is none."""
    try:
        return render_with(ENVIRONMENT, template, path=path, context=context)
    except BrokenError as broken:
        return broken.problem


def identifier(table: TableName) -> str:
    """*table* as templates name it: one quoted DuckDB identifier."""
    return f'"{table}"'


def author_line(template: str, *, path: str, context: RenderContext, line: int) -> int:
    """The line of *template* that line *line* of its rendering came from."""
    try:
        marked = render_with(MARKING, template, path=path, context=context)
    except BrokenError:
        return line
    current, lines = 1, []
    for rendered in marked.split("\n"):
        marks = MARK.findall(rendered)
        lines.append(int(marks[0]) if marks else current)
        current = int(marks[-1]) if marks else current
    return lines[line - 1] if 0 < line <= len(lines) else line


def read_template(template: str, *, path: str, namespace: str) -> Mentions:
    """Parse *template* without rendering it, and say what it mentions."""
    try:
        tree = ENVIRONMENT.parse(strip_comments(template))
        compile_template(ENVIRONMENT, template)  # finds unknown filters and tests
        names = meta.find_undeclared_variables(tree)
    except TemplateSyntaxError as error:
        return Mentions(
            problems=(describe_syntax(error, template=template, path=path),)
        )
    except RecursionError:
        what = "it is nested too deeply for Jinja to read"
        return Mentions(problems=(Problem(path, 1, what, "take it apart"),))
    mentions = understand(find_calls(tree), names=names, path=path, namespace=namespace)
    problems = [*mentions.problems, *find_misuse(tree, names=names, path=path)]
    return Mentions(
        mentions.refs,
        mentions.zones,
        mentions.reads_this,
        mentions.uses_watermark,
        tuple(problems),
    )


# Rendering.


class BrokenError(Exception):
    """A template does not render; the problem says where and why."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))


class NoWatermark(StrictUndefined):
    """A watermark that does not exist yet: false, `none`, and an error where it is written."""

    def __bool__(self) -> bool:  # type: ignore[override]
        return False

    def __eq__(self, other: object) -> bool:  # type: ignore[override]
        return other is None or isinstance(other, NoWatermark)

    def __ne__(self, other: object) -> bool:  # type: ignore[override]
        return not self == other

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(None)


class LineMarks(Extension):
    """Writes the author's line number before every line of plain text."""

    def filter_stream(self, stream: TokenStream) -> Iterable[Token]:
        """The tokens, the text among them marked."""
        for token in stream:
            is_text = token.type == "data"
            yield Token(token.lineno, "data", mark_lines(token)) if is_text else token


def mark_lines(token: Token) -> str:
    """The text of *token* with a mark in front of every line."""
    lines = token.value.split("\n")
    return "\n".join(
        f"\ue000{token.lineno + n}\ue001{line}" for n, line in enumerate(lines)
    )


MARK = re.compile("\ue000(\\d+)\ue001")


def make_environment(*extensions: type[Extension]) -> ImmutableSandboxedEnvironment:
    """Jinja as templates get it."""
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        finalize=refuse_none,
        keep_trailing_newline=True,
        extensions=extensions,
    )
    environment.tests["none"] = lambda value: (
        value is None or isinstance(value, NoWatermark)
    )
    return environment


def refuse_none(value: object) -> object:
    """*value*, unless writing it into SQL would write the word None."""
    if isinstance(value, NoWatermark):
        what = "watermark_value does not exist before the table has rows"
        raise UnclearError(what, GUARD)
    if value is None:
        what = "this expression has no value, and SQL has no word None"
        raise UnclearError(what, "give it a default, or test it with {% if … %}")
    return value


ENVIRONMENT = make_environment()
MARKING = make_environment(LineMarks)


def render_with(
    environment: ImmutableSandboxedEnvironment,
    template: str,
    *,
    path: str,
    context: RenderContext,
) -> str:
    """Render, with whatever goes wrong as BrokenError."""
    try:
        compiled = compile_template(environment, template)
        return strip_end(compiled.render(template_words(context)))
    except TemplateSyntaxError as error:
        problem = describe_syntax(error, template=template, path=path)
        raise BrokenError(problem) from error
    except Exception as error:  # a template may call anything that Jinja allows
        what, fix = explain(error)
        line = template_line(sys.exc_info()[2])
        raise BrokenError(Problem(path, line, what, fix)) from error


@lru_cache(maxsize=256)
def compile_template(
    environment: ImmutableSandboxedEnvironment, template: str
) -> Template:
    """*template* ready to render; a publish renders each one several times."""
    return environment.from_string(strip_comments(template))


def template_words(context: RenderContext) -> dict[str, Any]:
    """The names that a template may use."""

    def ref(name: str) -> str:
        call = Call("ref", (name,), (), 0)
        return identifier(read_ref(call, namespace=context.table.namespace))

    def landing_zone(name: str, *, new: bool = False) -> str:
        zone = Zone(name, new=new)
        if zone not in context.landing_zones:
            what = f"landing zone {name} is not among what this run reads"
            raise UnclearError(what, "call landing_zone() with a constant name")
        return escape(context.landing_zones[zone])

    watermark: object = NoWatermark(name="watermark_value")
    if context.watermark_value is not None:
        watermark = escape(context.watermark_value)
    helpers = {
        word: helper(context.is_strategy(strategy))
        for word, strategy in HELPERS.items()
    }
    return helpers | {
        "ref": ref,
        "this": identifier(context.table),
        "landing_zone": landing_zone,
        "watermark_value": watermark,
        "run_started_at": context.run_started_at.isoformat(),
    }


def helper(answer: bool) -> Callable[[], bool]:  # noqa: FBT001 - the one argument is the answer
    """A helper that always answers *answer*."""
    return lambda: answer


def escape(text: str) -> str:
    """*text* as it must stand between single quotes."""
    return text.replace("'", "''")


def explain(error: Exception) -> tuple[str, str]:
    """What went wrong while rendering, and how to mend it."""
    if isinstance(error, UnclearError):
        return error.what, error.fix
    if isinstance(error, UndefinedError) and "watermark_value" in str(error):
        return "watermark_value does not exist before the table has rows", GUARD
    if isinstance(error, UndefinedError):
        return str(error), f"templates know {', '.join(WORDS)}"
    if isinstance(error, SecurityError):
        return (
            f"a template may not do this: {error}",
            "templates are sandboxed; use SQL",
        )
    return f"{type(error).__name__}: {error}", "correct the template"


def template_line(traceback: TracebackType | None) -> int:
    """The line of the template that an error came from."""
    line = 1
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == "<template>":
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line


def describe_syntax(error: TemplateSyntaxError, *, template: str, path: str) -> Problem:
    """A Jinja syntax error in our words."""
    return syntax_problem(
        error,
        template=strip_comments(template),
        path=path,
        filters=ENVIRONMENT.filters,
        tests=ENVIRONMENT.tests,
    )


# What a template mentions.


def find_calls(tree: nodes.Template) -> Iterator[Call]:
    """Every use of `ref` and `landing_zone`, a bare one as a call of nothing known."""
    called = set()
    for node in tree.find_all(nodes.Call):
        if isinstance(node.node, nodes.Name) and node.node.name in CALLS:
            called.add(id(node.node))
            starred = node.dyn_args is not None or node.dyn_kwargs is not None
            keywords = tuple((each.key, value(each.value)) for each in node.kwargs)
            arguments = None if starred else constants(node.args)
            yield Call(
                node.node.name, arguments, keywords, node.lineno, written(node.args)
            )
    for name in tree.find_all(nodes.Name):
        if name.name in CALLS and name.ctx == "load" and id(name) not in called:
            yield Call(name.name, None, (), name.lineno)


def constants(expressions: Iterable[nodes.Expr]) -> tuple[object, ...] | None:
    """The values of *expressions*, or None when one is only known when the template renders."""
    values = tuple(value(each) for each in expressions)
    return None if NOT_CONSTANT in values else values


def written(arguments: Sequence[nodes.Expr]) -> str:
    """The name that somebody wrote without quotes: `bronze.orders`; empty where it is none."""
    parts: list[str] = []
    node = arguments[0] if len(arguments) == 1 else None
    while isinstance(node, nodes.Getattr):
        parts.insert(0, node.attr)
        node = node.node
    return (
        ".".join([node.name, *parts]) if isinstance(node, nodes.Name) and parts else ""
    )


NOT_CONSTANT = object()


def value(expression: nodes.Expr) -> object:
    """The value of a constant expression."""
    try:
        return expression.as_const()
    except nodes.Impossible:
        return NOT_CONSTANT


def find_misuse(
    tree: nodes.Template, *, names: set[str], path: str
) -> Iterator[Problem]:
    """Names that nobody defines, words that the template redefines, and other templates."""
    unquoted = {
        id(each)
        for call in tree.find_all(nodes.Call)
        if written(call.args)
        for each in call.find_all(nodes.Name)
    }
    for name in tree.find_all(nodes.Name):
        if name.ctx != "load" and name.name in WORDS:
            what = f"{name.name} already means something in a template"
            yield Problem(path, name.lineno, what, "choose another name")
    for unknown in sorted(names - set(WORDS) - set(ENVIRONMENT.globals)):
        uses = [each for each in tree.find_all(nodes.Name) if each.name == unknown]
        if all(id(each) in unquoted for each in uses):
            continue  # the call says so
        line = uses[0].lineno if uses else 1
        guess = nearest(unknown, WORDS)
        fix = (
            f"did you mean {guess}?" if guess else f"templates know {', '.join(WORDS)}"
        )
        yield Problem(path, line, f"{unknown} is not known", fix)
    for other in tree.find_all(
        (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
    ):
        what = "a template cannot read another file"
        yield Problem(
            path, other.lineno, what, "write it out, or make it a pipeline and ref() it"
        )
