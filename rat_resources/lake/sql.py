"""Words of SQL: how names and values are written so that nothing in them is ever read as SQL."""

from collections.abc import Iterable


def quote(name: str) -> str:
    """*name* as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """*text* as a string literal."""
    return "'" + text.replace("'", "''") + "'"


def name_list(names: Iterable[str]) -> str:
    """*names* quoted and joined by commas."""
    return ", ".join(map(quote, names))


def same_keys(left: str, right: str, *, names: Iterable[str]) -> str:
    """The condition that *left* and *right* have equal keys, where NULL equals NULL."""
    return " AND ".join(
        f"{left}.{quote(name)} IS NOT DISTINCT FROM {right}.{quote(name)}"
        for name in names
    )
