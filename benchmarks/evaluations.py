"""What evaluating alerts costs a publication: tables of the same rows with 0, 1, 10 and 100 alerts.

Four in five are conditions on rows, of which one a table scan asks them all; the others are figures,
half of them by group. Nothing matches in the first tables, every condition in the last one.
"""

import uuid
from collections.abc import Iterator
from functools import partial
from itertools import islice
from statistics import median
from time import process_time
from typing import Any

from benchmarks.paper import Figures, ms
from benchmarks.place import Place, command, in_turns, seconds

ROUNDS = 8
ROWS = 100_000
NUMBERS = (0, 1, 10, 100)
MATCHING = "all"
QUERY = f"""
SELECT i AS id, i % 7 AS day, i * 0.5 AS amount, '{{{{ run_started_at }}}}'::TIMESTAMPTZ AS made_at
FROM range({ROWS}) AS r(i)
"""


def measure(place: Place, rat: str) -> Figures:
    """A run of each table, in turns."""
    import dagster as dg  # noqa: PLC0415 - after the environment

    from rat_assets import runner  # noqa: PLC0415
    from rat_assets.runner import RunAsk  # noqa: PLC0415
    from rat_resources.platform import platform  # noqa: PLC0415

    names = [f"n{number}" for number in NUMBERS] + [MATCHING]
    files = {f"bench/pipelines/gold/{name}/pipeline.sql": QUERY for name in names}
    command([rat, "publish", str(place.tree(files, name="evaluations"))])
    whole = platform()
    define_all(whole)
    computed: dict[str, list[float]] = {name: [] for name in names}
    with dg.DagsterInstance.get() as instance:

        def run(name: str) -> float:
            ask = RunAsk((f"bench.gold.{name}",))
            before = process_time()
            took = seconds(lambda: runner.run(whole, ask, instance=instance))
            computed[name].append(process_time() - before)
            return took

        taken = in_turns({name: partial(run, name) for name in names}, rounds=ROUNDS)
    last = NUMBERS[-1]
    labels = {
        "n0": "no alert",
        **{f"n{each}": f"{each} alerts, none matches" for each in NUMBERS[1:]},
        "n1": "1 alert, which does not match",
        MATCHING: f"{last} alerts, all match and are raised since the first run",
    }
    cpu = {name: median(times[1:]) for name, times in computed.items()}
    rows = [
        (
            labels[name],
            ms(taken[name]),
            f"{taken[name] / taken['n0']:.2f}",
            ms(cpu[name]),
            f"{cpu[name] / cpu['n0']:.2f}",
        )
        for name in names
    ]
    head = f"a run that publishes {ROWS:,} rows, median of {ROUNDS}"
    return Figures((head, "time", "ratio", "its process's CPU", "ratio"), rows)


def define_all(whole: Any) -> None:  # noqa: ANN401 - the platform, imported late
    """Define the alerts of every table."""
    from rat_resources.alerts.definitions import Definition, save  # noqa: PLC0415

    wanted = [(f"n{number}", number, False) for number in NUMBERS]
    wanted.append((MATCHING, NUMBERS[-1], True))
    with whole.metadata.transaction() as tx:
        for table, number, matches in wanted:
            chosen = islice(conditions(matches=matches), number)
            for turn, condition in enumerate(chosen):
                name = f"{table}_{turn}"
                definition = Definition(
                    id=uuid.uuid5(uuid.NAMESPACE_OID, name),
                    name=name,
                    namespace="bench",
                    kind=condition["kind"],
                    condition={"dataset": f"bench.gold.{table}"} | condition,
                )
                save(tx, definition)


def conditions(*, matches: bool) -> Iterator[dict[str, Any]]:
    """One condition after the other, which matches or does not."""
    limit = 0 if matches else 10 * ROWS
    while True:
        for _ in range(8):
            yield {"kind": "threshold", "column": "amount", "op": "gt", "value": limit}
            limit += 1
        yield {"kind": "aggregate", "fn": "count", "op": "gt", "value": limit}
        yield {
            "kind": "aggregate",
            "fn": "sum",
            "column": "amount",
            "group_by": ["day"],
            "op": "gt",
            "value": limit * ROWS,
        }
