"""Python pipelines as text: their syntax and what they mention. Running one is a run's business."""

import ast
import warnings
from collections.abc import Iterator

from rat_resources.errors import Problem
from rat_resources.mentions import CALLS, Call, Mentions, understand


def read_script(text: str, *, path: str, namespace: str) -> Mentions:
    """Parse a script without running it, and say what it mentions."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are for whoever runs the script
            tree = ast.parse(text, filename=path)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        what = f"Python cannot parse this: {getattr(error, 'msg', error)}"
        return Mentions(problems=(Problem(path, line, what, "correct the Python"),))
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    loaded = {node.id for node in names if isinstance(node.ctx, ast.Load)}
    mentions = understand(
        find_calls(tree), names=loaded, path=path, namespace=namespace
    )
    assigned = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    if "result" in assigned:
        return mentions
    problem = Problem(
        path,
        1,
        "the script never assigns result",
        "end with result = …, a table, reader, relation or data frame",
    )
    return Mentions(
        mentions.refs,
        mentions.zones,
        mentions.reads_this,
        mentions.uses_watermark,
        (*mentions.problems, problem),
    )


def find_calls(tree: ast.AST) -> Iterator[Call]:
    """Every use of `ref` and `landing_zone`, a bare one as a call of nothing known."""
    called = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            called.add(node.func)
            if node.func.id in CALLS:
                yield Call(
                    node.func.id,
                    constants(node.args),
                    tuple(
                        (each.arg or "**", value(each.value)) for each in node.keywords
                    ),
                    node.lineno,
                )
    for node in ast.walk(tree):
        if not isinstance(node, ast.Name) or node in called or node.id not in CALLS:
            continue
        if isinstance(node.ctx, ast.Load):
            yield Call(node.id, None, (), node.lineno)


def constants(nodes: list[ast.expr]) -> tuple[object, ...] | None:
    """The values of *nodes*, or None when one is only known when the script runs."""
    values = tuple(value(node) for node in nodes)
    return None if NOT_CONSTANT in values else values


NOT_CONSTANT = object()


def value(node: ast.expr) -> object:
    """The value of a literal."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return NOT_CONSTANT
