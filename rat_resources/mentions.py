"""What a file's code mentions: tables by `ref()`, landing zones, its own table, the watermark.

Read from the parsed template or script, so text in comments and strings does not count.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from rat_resources.errors import Problem
from rat_resources.names import LAYERS, TableName, is_name, nearest


@dataclass(frozen=True, order=True)
class Zone:
    """A landing zone that a pipeline reads: all of it, or only what it has not committed yet."""

    name: str
    new: bool = False


@dataclass(frozen=True)
class Call:
    """A call of `ref` or `landing_zone` with its arguments; None where they are not constant."""

    function: str
    arguments: tuple[object, ...] | None
    keywords: tuple[tuple[str, object], ...]
    line: int
    written: str = ""  # a name that stands there without quotes


@dataclass(frozen=True)
class Mentions:
    """What one file mentions, each table and zone with the line of its first mention."""

    refs: tuple[tuple[TableName, int], ...] = ()
    zones: tuple[tuple[Zone, int], ...] = ()
    reads_this: bool = False
    uses_watermark: bool = False
    problems: tuple[Problem, ...] = ()

    @property
    def tables(self) -> tuple[TableName, ...]:
        """The tables that are read by `ref()`, in order of name."""
        return tuple(sorted({table for table, _ in self.refs}))

    def line(self, table: TableName) -> int:
        """Where *table* is mentioned first."""
        return next((line for each, line in self.refs if each == table), 1)


class UnclearError(ValueError):
    """A call that cannot be understood before it runs, and how to write it."""

    def __init__(self, what: str, fix: str) -> None:
        self.what, self.fix = what, fix
        super().__init__(f"{what}; {fix}")


CALLS = ("ref", "landing_zone")
EXAMPLES = {"ref": "ref('silver.orders')", "landing_zone": "landing_zone('orders')"}


def understand(
    calls: Iterator[Call], *, names: set[str], path: str, namespace: str
) -> Mentions:
    """Turn the calls and bare names of a file into what it mentions."""
    refs: dict[TableName, int] = {}
    zones: dict[Zone, int] = {}
    problems = []
    for call in calls:
        try:
            if call.function == "ref":
                refs.setdefault(read_ref(call, namespace=namespace), call.line)
            else:
                zones.setdefault(read_zone(call), call.line)
        except UnclearError as unclear:
            problems.append(Problem(path, call.line, unclear.what, unclear.fix))
    return Mentions(
        refs=tuple(refs.items()),
        zones=tuple(zones.items()),
        reads_this="this" in names,
        uses_watermark="watermark_value" in names,
        problems=tuple(problems),
    )


def read_ref(call: Call, *, namespace: str) -> TableName:
    """The table of a `ref()` call."""
    if call.keywords:
        what = "ref() takes one name and nothing else"
        raise UnclearError(what, f"write {EXAMPLES['ref']}")
    text = constant(call)
    try:
        return TableName.parse(text, namespace=namespace)
    except ValueError as error:
        what = f"ref({text!r}) names no table"
        guess = well_formed(text)
        fix = (
            f"did you mean ref('{guess}')?"
            if guess
            else "write ref('layer.name') or ref('namespace.layer.name')"
        )
        raise UnclearError(what, fix) from error


def well_formed(text: str) -> str | None:
    """The table name that *text* is nearly: a misspelt layer, a capital letter."""
    parts = text.strip().lower().split(".")
    if len(parts) not in (2, 3):
        return None
    layer = nearest(parts[-2], LAYERS)
    guess = ".".join([*parts[:-2], layer or "", parts[-1]])
    return guess if layer and all(map(is_name, guess.split("."))) else None


def read_zone(call: Call) -> Zone:
    """The zone of a `landing_zone()` call."""
    keywords = dict(call.keywords)
    new = keywords.pop("new", False)
    if keywords or not isinstance(new, bool):
        what = "landing_zone() takes a name and new=true, constant, and nothing else"
        raise UnclearError(what, "write landing_zone('orders', new=true)")
    text = constant(call)
    if not is_name(text):
        what = f"landing_zone({text!r}) names no zone of this namespace"
        raise UnclearError(what, f"write {EXAMPLES['landing_zone']}")
    return Zone(text, new=new)


def constant(call: Call) -> str:
    """The one constant text that a call was given."""
    if call.written:
        what = f"the name that {call.function}() is given has no quotes"
        raise UnclearError(what, f"write {call.function}('{call.written}')")
    if call.arguments is None:
        what = f"{call.function}() is not called with a constant name, so nobody knows what it reads"
        raise UnclearError(what, f"write the name itself: {EXAMPLES[call.function]}")
    if len(call.arguments) != 1 or not isinstance(call.arguments[0], str):
        what = f"{call.function}() takes one name"
        raise UnclearError(what, f"write {EXAMPLES[call.function]}")
    text = call.arguments[0]
    if "{{" in text or "{%" in text:
        what = f"there is Jinja inside the name that {call.function}() is given"
        raise UnclearError(what, f"write the name itself: {EXAMPLES[call.function]}")
    return text
