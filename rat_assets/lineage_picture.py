"""The picture of a table's column lineage: what it reads on the left, its columns on the right.

An SVG, written as text: a run has no time for a plotting library. Dagster's UI strips inline SVG, so
it goes there as a data URI within Markdown.
"""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from rat_resources.lineage import Lineage
from rat_resources.names import ColumnName

ROW = 20
GAP = 14
MARGIN = 10
BOX = 300
ARROWS = 210
WIDTH = 2 * (MARGIN + BOX) + ARROWS
LETTERS = 40
# Told apart by people who see few colours, too (Okabe and Ito).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
OWN = "#444444"
NOTHING = "#999999"
STYLE = (
    "text{font:13px sans-serif;fill:#222}"
    ".h{font-weight:bold;fill:#fff}"
    f".n{{fill:{NOTHING}}}"
    "path{fill:none;stroke-width:1.5;opacity:.75}"
)


@dataclass(frozen=True)
class Box:
    """A table as it is drawn: its name over its columns."""

    dataset: str
    columns: Sequence[str]
    x: int
    y: int
    colour: str

    @property
    def bottom(self) -> int:
        """Where the box ends."""
        return self.y + ROW * (len(self.columns) + 1)

    def middle(self, column: str) -> int:
        """The height of a column's name."""
        return self.y + ROW * (self.columns.index(column) + 1) + ROW // 2


def data_uri(lineage: Lineage) -> str:
    """The picture as the address of an image."""
    return f"data:image/svg+xml;base64,{b64encode(draw(lineage).encode()).decode()}"


def draw(lineage: Lineage) -> str:
    """The picture as SVG."""
    inputs = list(input_boxes(lineage))
    height = max([box.bottom for box in inputs], default=0)
    own = Box(lineage.dataset, lineage.columns, WIDTH - MARGIN - BOX, MARGIN, OWN)
    height = max(height, own.bottom) + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}"><style>{STYLE}</style>'
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        *draw_arrows(lineage, inputs, own=own),
        *(part for box in inputs for part in draw_box(box, pale=())),
        *draw_box(own, pale=[c for c in own.columns if not lineage.sources.get(c)]),
        "</svg>",
    ]
    return "".join(parts)


def input_boxes(lineage: Lineage) -> Iterator[Box]:
    """The tables on the left, each with the columns that are read, in the order of their use."""
    read: dict[str, dict[str, None]] = {}
    for column in lineage.columns:
        for source in lineage.sources.get(column, ()):
            read.setdefault(source.dataset, {})[source.column] = None
    y = MARGIN
    for number, (dataset, columns) in enumerate(read.items()):
        colour = COLOURS[number % len(COLOURS)]
        box = Box(dataset, list(columns), MARGIN, y, colour)
        yield box
        y = box.bottom + GAP


def draw_box(box: Box, *, pale: Iterable[str]) -> Iterator[str]:
    """A table: its name on its colour, its columns below."""
    yield (
        f'<rect x="{box.x}" y="{box.y}" width="{BOX}" height="{box.bottom - box.y}" rx="4" '
        f'fill="#fff" stroke="{box.colour}"/><rect x="{box.x}" y="{box.y}" width="{BOX}" '
        f'height="{ROW}" rx="4" fill="{box.colour}"/>'
        f'<text class="h" x="{box.x + 8}" y="{box.y + 15}">{fitting(box.dataset)}</text>'
    )
    for column in box.columns:
        kind = ' class="n"' if column in pale else ""
        y = box.middle(column) + 5
        yield f'<text{kind} x="{box.x + 8}" y="{y}">{fitting(column)}</text>'


def fitting(name: str) -> str:
    """A name as it has room in a box."""
    return escape(name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…")


def draw_arrows(lineage: Lineage, inputs: Sequence[Box], *, own: Box) -> Iterator[str]:
    """A line from each source to its column."""
    boxes = {box.dataset: box for box in inputs}
    start, end = MARGIN + BOX, own.x
    for column, sources in lineage.sources.items():
        for source in sources:
            yield draw_arrow(
                boxes[source.dataset], source, own.middle(column), start, end
            )


def draw_arrow(box: Box, source: ColumnName, height: int, start: int, end: int) -> str:
    """One line, in the colour of the table that it comes from."""
    middle = (start + end) // 2
    y = box.middle(source.column)
    return (
        f'<path stroke="{box.colour}" '
        f'd="M{start},{y}C{middle},{y} {middle},{height} {end},{height}"/>'
    )
