"""What alerts cost: a publication that evaluates them, and the messages that are sent.

`python benchmarks/alerts.py` measures both and writes their section; what is measured stands in
`benchmarks.evaluations` and beside it.
"""

from benchmarks import evaluations
from benchmarks.paper import keep
from benchmarks.place import RAT, own_place


def main() -> None:
    """Measure, and write the section."""
    with own_place() as place:
        evaluated = evaluations.measure(place, str(RAT))
    keep("alerts", evaluated)


if __name__ == "__main__":
    main()
