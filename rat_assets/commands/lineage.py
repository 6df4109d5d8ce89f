"""Where columns come from and go to, as trees: all hops that Postgres knows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import click

from rat_assets.commands.display import print_json
from rat_assets.commands.opening import open_platform
from rat_resources import lineage
from rat_resources.impact import unknown
from rat_resources.lineage import Arrows
from rat_resources.names import ColumnName

PARTS = 3  # of the name of a table, a view or a landing zone
UP, DOWN, AGAIN = "←", "→", "…"


@dataclass(frozen=True)
class Trees:
    """Columns, and the arrows that lead from them."""

    columns: Sequence[ColumnName]
    up: Arrows | None
    down: Arrows | None
    # Of which the sources are not known, with what writes them: sql or python.
    untold: Mapping[ColumnName, str]


def show(name: str, *, up: bool, down: bool, as_json: bool) -> None:
    """Print where a column, or each of a table's, comes from and goes to."""
    with open_platform().metadata.transaction() as tx:
        columns = find(lineage.datasets(tx), name)
        trees = Trees(
            columns,
            up=lineage.upstream(tx, columns) if up else None,
            down=lineage.downstream(tx, columns) if down else None,
            untold=lineage.untold(tx),
        )
    if as_json:
        print_json(as_object(trees))
        return
    for column in columns:
        click.echo(str(column))
        for line in branches(trees, column):
            click.echo(line)


def find(datasets: Mapping[str, Sequence[str]], name: str) -> list[ColumnName]:
    """The columns that *name* means; NotFoundError with the name that was probably meant."""
    parts = name.split(".")
    dataset, column = ".".join(parts[:PARTS]), ".".join(parts[PARTS:])
    if dataset not in datasets:
        raise unknown(dataset, datasets, what="no lineage is known of")
    columns = datasets[dataset]
    if not column:
        return [ColumnName(dataset, each) for each in columns]
    found = [each for each in columns if each.casefold() == column.casefold()]
    if not found:
        raise unknown(column, columns, what=f"{dataset} has no column")
    return [ColumnName(dataset, found[0])]


def branches(trees: Trees, column: ColumnName) -> Iterator[str]:
    """The tree below a column, line by line: first where it comes from, then where it goes."""
    below: list[list[str]] = []
    if trees.up is not None:
        below += climb(trees.up, column, sign=UP, seen={column}, untold=trees.untold)
    if trees.down is not None:
        below += climb(trees.down, column, sign=DOWN, seen={column}, untold={})
    yield from drawn(below)


def climb(
    arrows: Arrows,
    column: ColumnName,
    *,
    sign: str,
    seen: set[ColumnName],
    untold: Mapping[ColumnName, str],
) -> list[list[str]]:
    """A block of lines for each column that the arrows lead to; one that was shown is not opened."""
    if column in untold:
        is_script = untold[column] == "python"
        why = "a Python pipeline" if is_script else "its query does not tell"
        return [[f"{sign} not traced: {why}"]]
    if sign == UP and not arrows[column] and not is_landed(column):
        return [[f"{sign} made here (from no column)"]]
    blocks = []
    for each in arrows[column]:
        is_again = each in seen and bool(arrows[each])
        seen.add(each)
        head = f"{sign} {each}" + (f" {AGAIN}" if is_again else "")
        inner = (
            [] if is_again else climb(arrows, each, sign=sign, seen=seen, untold=untold)
        )
        blocks.append([head, *drawn(inner)])
    return blocks


def is_landed(column: ColumnName) -> bool:
    """Whether a column is one of files."""
    return column.dataset.split(".")[1] == "landing"


def drawn(blocks: Sequence[Sequence[str]]) -> Iterator[str]:
    """Blocks of lines as the branches of a tree."""
    for number, (head, *rest) in enumerate(blocks, start=1):
        is_last = number == len(blocks)
        yield f"{'└─' if is_last else '├─'} {head}"
        for line in rest:
            yield f"{'  ' if is_last else '│ '} {line}"


def as_object(trees: Trees) -> dict[str, object]:
    """The columns and the arrows as JSON has them; an arrow goes the way that values go."""
    shown: dict[str, object] = {
        "columns": [
            {"column": str(each), "known": each not in trees.untold}
            for each in trees.columns
        ]
    }
    if trees.up is not None:
        shown["up"] = [
            {"from": str(source), "to": str(each)}
            for each, sources in trees.up.items()
            for source in sources
        ]
    if trees.down is not None:
        shown["down"] = [
            {"from": str(each), "to": str(follower)}
            for each, followers in trees.down.items()
            for follower in followers
        ]
    return shown
