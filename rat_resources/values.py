"""Values: what a YAML file says, each value with its line, and the readers of plain ones.

A reader turns a value into what the code wants, or says why it cannot. What the keys of a pipeline
mean is `rat_resources.configuration`.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from rat_resources.annotations import unknown_key
from rat_resources.errors import Problem
from rat_resources.names import nearest
from rat_resources.yaml_syntax import yaml_problem


class UnfitError(ValueError):
    """A value that its key cannot take, and what it could."""

    def __init__(self, what: str, fix: str, *, line: int | None = None) -> None:
        self.what, self.fix, self.line = what, fix, line
        self.more: tuple[UnfitError, ...] = ()  # a list may be wrong in several places
        super().__init__(f"{what}; {fix}")

    def at(self, line: int) -> "UnfitError":
        """The same, in *line* where it knew none."""
        self.line = self.line or line
        return self

    def under(self, key: str, *, line: int) -> "UnfitError":
        """The same of the value of *key*, which starts in *line*, and all that came with it."""
        each = UnfitError(f"{key}: {self.what}", self.fix, line=self.line or line)
        each.more = tuple(more.under(key, line=line) for more in self.more)
        return each

    @classmethod
    def of(cls, found: Sequence["UnfitError"]) -> "UnfitError":
        """All that was found, as the first of them."""
        first, *more = (each for error in found for each in (error, *error.more))
        first.more = tuple(more)
        return first


@dataclass(frozen=True)
class Located:
    """A YAML value and the line that it starts on; its children are located too."""

    value: Any
    line: int
    written: str = (
        ""  # a plain value's own letters: `yes` is True, and may be meant as text
    )


def read_yaml(
    text: str, *, path: str, problems: list[Problem]
) -> Iterator[tuple[str, Located]]:
    """The top keys of a YAML mapping, in order, each once; the rest goes to *problems*."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        document = None if node is None else locate(node, room=Room())
    except yaml.YAMLError as error:
        problems.append(yaml_problem(error, text=text, path=path))
        return
    except UnfitError as unfit:
        problems.append(Problem(path, unfit.line or 1, unfit.what, unfit.fix))
        return
    except RecursionError:
        problems.append(
            Problem(path, 1, "a YAML alias holds itself", "write the value out")
        )
        return
    if document is None or document.value is None:
        return
    if not isinstance(document.value, list) or not is_mapping(document):
        problems.append(
            Problem(
                path, document.line, "this is no mapping", "write one key: value a line"
            )
        )
        return
    try:
        yield from unique_entries(document, problems=problems, path=path)
    except UnfitError as unfit:
        problems.append(Problem(path, unfit.line or 1, unfit.what, unfit.fix))


@dataclass(frozen=True)
class Entry:
    """One key of a mapping with its value."""

    key: Located
    value: Located


def is_mapping(located: Located) -> bool:
    """Whether *located* was written as a mapping."""
    return isinstance(located.value, list) and all(
        isinstance(each, Entry) for each in located.value
    )


class Room:
    """How many values a document may still have: aliases of aliases make billions of a few lines."""

    MOST = 100_000

    def __init__(self) -> None:
        self.left = self.MOST

    def take(self, line: int) -> None:
        """Make room for one; UnfitError where there is none."""
        self.left -= 1
        if self.left < 0:
            what = f"there are more than {self.MOST:,} values"
            raise UnfitError(what, "write fewer, and no aliases (*name)", line=line)


def locate(node: yaml.Node, *, room: Room) -> Located:
    """The plain value of *node* with its line; a mapping becomes a list of entries."""
    line = node.start_mark.line + 1
    room.take(line)
    if isinstance(node, yaml.MappingNode):
        # The line of a key is where people look, also when its value starts further down.
        return Located(
            [
                Entry(
                    key := locate(k, room=room),
                    replace(locate(v, room=room), line=key.line),
                )
                for k, v in node.value
            ],
            line,
        )
    if isinstance(node, yaml.SequenceNode):
        return Located(tuple(locate(each, room=room) for each in node.value), line)
    loader = yaml.SafeLoader("")
    try:
        return Located(loader.construct_object(node), line, node.value)
    except ValueError as error:
        what = f"{node.value} is read as a date, and {error}"
        raise UnfitError(what, "put quotes around it", line=line) from error


def as_located(document: Any) -> Located:  # noqa: ANN401 - JSON
    """A JSON document as the readers take it; it has no lines."""
    if isinstance(document, Mapping):
        return Located(
            [
                Entry(Located(key, 0, str(key)), as_located(value))
                for key, value in document.items()
            ],
            0,
        )
    if isinstance(document, list | tuple):
        return Located(tuple(map(as_located, document)), 0)
    return Located(document, 0, "" if document is None else str(document))


def unique_entries(
    mapping: Located, *, problems: list[Problem], path: str
) -> Iterator[tuple[str, Located]]:
    """The entries of *mapping* by their first occurrence; a second one is a problem."""
    first: dict[str, int] = {}
    for entry in mapping.value:
        key = entry.key.written or str(entry.key.value)
        if key in first:
            what = f"{key} stands here a second time"
            fix = f"keep this one or the one in line {first[key]}"
            problems.append(Problem(path, entry.key.line, what, fix))
            continue
        first[key] = entry.key.line
        yield key, entry.value


# Readers.

Reader = Callable[[Located, str], Any]


def text(located: Located, namespace: str = "") -> str:
    """A text, as it is."""
    del namespace
    if isinstance(located.value, str):
        return located.value.strip()
    if located.value is None:
        what, fix = "it has no value", "give it one, or remove the line"
        raise UnfitError(what, fix)
    what = f"{shown(located)} is no text"
    is_plain = not isinstance(located.value, list | tuple)
    raise UnfitError(what, "put quotes around it" if is_plain else "write one text")


def filled_text(located: Located, namespace: str = "") -> str:
    """A text that says something: the name of a column."""
    value = text(located, namespace)
    if not value:
        what, fix = "it has no value", "give it one, or remove the line"
        raise UnfitError(what, fix)
    return value


def flag(located: Located, namespace: str = "") -> bool:
    """True or false."""
    del namespace
    words = {"true": True, "false": False}
    word = str(located.value).lower()
    if word not in words:
        what = f"{shown(located)} is neither true nor false"
        raise UnfitError(what, "write true or false")
    return words[word]


def count(located: Located, namespace: str = "") -> int:
    """A whole number, zero or more."""
    del namespace
    if isinstance(located.value, bool) or not re.fullmatch(
        r"\d{1,9}", str(located.value)
    ):
        what = f"{shown(located)} is no whole number of zero or more"
        raise UnfitError(what, "write a number such as 3")
    return int(located.value)


def one_of(*words: str) -> Reader:
    """A reader of one of *words*."""

    def read(located: Located, namespace: str) -> str:
        value = text(located, namespace)
        if value in words:
            return value
        guess = nearest(value.lower(), words)
        what = f"{shown(located)} is not known"
        fix = f"did you mean {guess}?" if guess else f"known are {', '.join(words)}"
        raise UnfitError(what, fix)

    return read


@dataclass(frozen=True)
class MappingReader:
    """Reads a mapping, whose values *make* turns into an object."""

    readers: Mapping[str, Reader]
    make: Callable[[dict[str, Any], str], Any]
    required: Sequence[str] = ()
    form: str = ""  # how to write one

    def __call__(self, located: Located, namespace: str) -> Any:  # noqa: ANN401 - what *make* makes
        """The object."""
        if not is_mapping(located):
            what = f"{shown(located)} is no mapping"
            raise UnfitError(what, f"write {self.form}", line=located.line)
        doubled: list[Problem] = []
        entries = dict(unique_entries(located, problems=doubled, path=""))
        found = [UnfitError(each.what, each.fix, line=each.line) for each in doubled]
        values = {}
        for key, each in entries.items():
            try:
                values[key] = self.read_value(key, each, namespace)
            except UnfitError as unfit:
                found.append(unfit)
        for key in self.required:
            is_misspelt = any(key in each.fix for each in found)
            if key not in entries and not is_misspelt:
                what = f"{key} is missing"
                found.append(UnfitError(what, f"add {key}: …", line=located.line))
        if found:
            raise UnfitError.of(found)
        try:
            return self.make(values, namespace)
        except UnfitError as unfit:
            raise UnfitError.of(
                [
                    UnfitError(each.what, each.fix, line=each.line or located.line)
                    for each in (unfit, *unfit.more)
                ]
            ) from unfit

    def read_value(self, key: str, value: Located, namespace: str) -> object:
        """One value of the object."""
        if key not in self.readers:
            unknown = unknown_key(key, path="", line=value.line, known=self.readers)
            raise UnfitError(unknown.what, unknown.fix, line=value.line)
        try:
            return self.readers[key](value, namespace)
        except UnfitError as unfit:
            raise unfit.under(key, line=value.line) from unfit


@dataclass(frozen=True)
class ListReader:
    """Reads a list of mappings, each made into an object by *make*, no two alike."""

    readers: Mapping[str, Reader]
    required: Sequence[str]
    make: Callable[[dict[str, Any], str], Any]
    identity: Callable[[Any], object] = lambda item: item

    def __call__(self, located: Located, namespace: str) -> tuple[Any, ...]:
        """The objects of the list."""
        form = f"- {self.required[0]}: …"
        if not isinstance(located.value, tuple):
            raise UnfitError("this is no list", f"start each item with {form}")
        read = MappingReader(self.readers, self.make, self.required, form)
        items: dict[object, Any] = {}
        found: list[UnfitError] = []
        for each in located.value:
            try:
                item = read(each, namespace)
            except UnfitError as unfit:
                found.append(unfit)
                continue
            if items.setdefault(self.identity(item), item) is not item:
                what = "this item says the same as an earlier one"
                found.append(UnfitError(what, "remove it", line=each.line))
        if found:
            raise UnfitError.of(found)
        return tuple(items.values())


def shown(located: Located) -> str:
    """The value as a problem names it."""
    value = located.value
    if isinstance(value, tuple):
        return "a list"
    if isinstance(value, list):
        return "a mapping"
    return repr(value)
