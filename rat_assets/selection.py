"""Selections: which pipelines a person means."""

from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase

from rat_resources import graph
from rat_resources.errors import NotFoundError
from rat_resources.graph import Reads
from rat_resources.names import TableName, nearest


def select(
    reads: Reads,
    words: Sequence[str],
    *,
    everything: bool = False,
    downstream: bool = False,
    upstream: bool = False,
) -> list[TableName]:
    """The pipelines that *words* name, with what follows or precedes them, in dependency order.

    A word is `ns.layer.name`, a pattern of it (`nyc.silver.*`), or a namespace. NotFoundError says
    which word names nothing, and what was probably meant.
    """
    chosen = set(reads) if everything else set(find_all(reads, words))
    chosen |= (graph.downstream(reads, of=chosen) if downstream else set()) | (
        graph.upstream(reads, of=chosen) if upstream else set()
    )
    return [table for table in graph.in_order(reads) if table in chosen]


def find_all(
    tables: Collection[TableName], words: Iterable[str]
) -> Iterable[TableName]:
    """What each word names; every word must name something."""
    for word in words:
        found = find(tables, word)
        if not found:
            raise unknown(tables, word)
        yield from found


def find(tables: Iterable[TableName], word: str) -> list[TableName]:
    """What one word names."""
    if "*" in word or "?" in word:
        return [table for table in tables if fnmatchcase(str(table), word)]
    return [table for table in tables if word in (str(table), table.namespace)]


def unknown(tables: Collection[TableName], word: str) -> NotFoundError:
    """The error of a word that names nothing."""
    names = [str(table) for table in tables]
    namespaces = {table.namespace for table in tables}
    if not names:
        return NotFoundError("nothing is published yet", fix="rat publish PATH")
    guess = nearest(word, [*names, *namespaces]) or nearest(
        word, [name.partition(".")[2] for name in names]
    )
    fix = (
        f"did you mean {guess}?"
        if guess
        else f"there is {', '.join(sorted(namespaces))}"
    )
    return NotFoundError(f"no published pipeline is called {word}", fix=fix)
