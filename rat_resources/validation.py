"""What must hold between pipelines before they become current together."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter

from rat_resources.configuration import Place
from rat_resources.errors import Problem
from rat_resources.names import LAYERS, TableName, nearest, op_name
from rat_resources.specs import Parsed, PipelineSpec, written

# Dagster walks the graph recursively and fails at about a thousand.
LONGEST_CHAIN = 500
READABLE = {"bronze": (), "silver": ("bronze", "silver"), "gold": ("silver", "gold")}

Graph = Mapping[TableName, PipelineSpec]


@dataclass(frozen=True)
class Judgement:
    """What forbids a publication, and what should only be known."""

    said: tuple[Problem, ...]  # what each file alone is wrong about
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


def judge(
    parsed: Sequence[Parsed],
    *,
    current: Graph,
    table_exists: Callable[[TableName], bool],
) -> Judgement:
    """Judge what is to be published together with what is current and stays so."""
    graph = {**current, **{each.spec.table: each.spec for each in parsed}}
    problems = [
        *check_refs(parsed, graph=graph, table_exists=table_exists),
        *check_cycles(parsed, graph=graph),
        *check_triggers(parsed, graph=graph),
        *check_op_names(parsed, graph=graph),
    ]
    said = [problem for each in parsed for problem in name_tables(each, graph=graph)]
    return Judgement(tuple(said), tuple(problems), tuple(warn_of_layers(parsed)))


def check_refs(
    parsed: Iterable[Parsed], *, graph: Graph, table_exists: Callable[[TableName], bool]
) -> Iterator[Problem]:
    """A `ref()` to something that no pipeline publishes and no table holds."""
    for each in parsed:
        for table, place in each.ref_places.items():
            if table in graph or table_exists(table):
                continue
            guess = nearest_table(table, graph)
            fix = (
                f"did you mean {guess}?"
                if guess
                else "publish it too, or correct the name"
            )
            what = f"ref('{table}') names no pipeline and no table"
            yield Problem(place.path, place.line, what, fix)


def nearest_table(table: TableName, graph: Graph) -> TableName | None:
    """The pipeline that somebody who wrote *table* most probably meant."""
    known = {str(each): each for each in graph}
    same = [each for each in graph if each.name == table.name and each != table]
    guess = nearest(str(table), map(str, same)) or nearest(str(table), known)
    return known[guess] if guess else None


NAMELESS = re.compile(r"ref\('([^'.]+)'\) names no table")
BARE = re.compile(r"the query names the table (?:[^ .]+\.)?([^ .]+) without ref\(\)")


def name_tables(each: Parsed, *, graph: Graph) -> Iterator[Problem]:
    """The problems of a pipeline; a table without its layer gets the layers that have one."""
    own = each.spec.table
    for problem in each.problems:
        found = NAMELESS.match(problem.what) or BARE.match(problem.what)
        meant = written_tables(found[1], own=own, graph=graph) if found else ""
        if not meant or "layer.name" not in problem.fix:
            yield problem
        elif problem.what.startswith("ref("):
            yield replace(problem, fix=f"did you mean {meant}?")
        else:
            yield replace(problem, fix=f"write {meant}")


def written_tables(name: str, *, own: TableName, graph: Graph) -> str:
    """Every table that is called *name*, or nearly so, as a template names it."""
    tables = [table for table in sorted(graph) if table != own]
    guess = name if name in {table.name for table in tables} else None
    guess = guess or nearest(name, {table.name for table in tables})
    near = [table for table in tables if table.name == guess]
    return " or ".join(written(table, own=own) for table in near[:3])


def check_cycles(parsed: Sequence[Parsed], *, graph: Graph) -> Iterator[Problem]:
    """Pipelines that wait for each other, or wait in too long a line."""
    places = {each.spec.table: each for each in parsed}
    edges = {
        table: {ref for ref in spec.refs if ref in graph}
        for table, spec in graph.items()
    }
    try:
        order = list(TopologicalSorter(edges).static_order())
    except CycleError as error:
        yield cycle_problem(error.args[1], places)
        return
    depth: dict[TableName, int] = {}
    for table in order:
        depth[table] = 1 + max((depth[ref] for ref in edges[table]), default=0)
        if depth[table] == LONGEST_CHAIN + 1 and table in places:
            at = places[table].code_place
            what = f"{table} is number {depth[table]} in a chain of pipelines, and Dagster fails"
            yield Problem(
                at.path, at.line, what, "read from a table nearer to the landing zone"
            )


def cycle_problem(
    cycle: Sequence[TableName], places: Mapping[TableName, Parsed]
) -> Problem:
    """The problem of pipelines that read each other in a circle."""
    # graphlib lists each node before the one that reads it; people follow ref()s.
    circle = list(reversed(cycle))[:-1]
    start = next((n for n, table in enumerate(circle) if table in places), 0)
    circle = [*circle[start:], *circle[:start]]
    words = " → ".join(map(str, [*circle, circle[0]]))
    at = Place(str(circle[0]), 1)
    if circle[0] in places:
        parsed = places[circle[0]]
        read = circle[1] if len(circle) > 1 else circle[0]
        at = parsed.ref_places.get(read, parsed.code_place)
    what = f"pipelines read each other in a circle: {words}"
    return Problem(at.path, at.line, what, "remove one of these ref()s")


def check_triggers(parsed: Iterable[Parsed], *, graph: Graph) -> Iterator[Problem]:
    """Triggers on zones that no pipeline reads, which therefore do not exist."""
    zones = {
        (table.namespace, zone.name)
        for table, spec in graph.items()
        for zone in spec.zones
    }
    for each in parsed:
        for trigger in each.spec.config.triggers:
            if (trigger.namespace, trigger.zone_name) in zones:
                continue
            at = each.places["triggers"]
            name = f"{trigger.namespace}/{trigger.zone_name}"
            guess = nearest(name, ("/".join(zone) for zone in zones))
            fix = f"did you mean {guess}?" if guess else "read it with landing_zone()"
            what = f"a trigger waits for the zone {name}, which no pipeline reads"
            yield Problem(at.path, at.line, what, fix)


def check_op_names(parsed: Iterable[Parsed], *, graph: Graph) -> Iterator[Problem]:
    """Two pipelines that Dagster would take for one."""
    names: dict[str, TableName] = {}
    for table in sorted(graph):
        names.setdefault(op_name(table), table)
    for each in parsed:
        other = names[op_name(each.spec.table)]
        if other != each.spec.table:
            at = each.code_place
            what = f"{each.spec.table} and {other} have one name in Dagster"
            yield Problem(at.path, at.line, what, "rename one of the two")


def warn_of_layers(parsed: Iterable[Parsed]) -> Iterator[Problem]:
    """Pipelines that read against the current: bronze ← landing, silver ← bronze, gold ← silver."""
    for each in parsed:
        layer = each.spec.table.layer
        fix = f"let {layer} read {readable(layer)}"
        for ref in each.spec.refs:
            if ref.layer not in READABLE[layer]:
                at = each.ref_places[ref]
                is_later = LAYERS.index(ref.layer) > LAYERS.index(layer)
                how = "which comes after it" if is_later else "past the layer between"
                yield Problem(at.path, at.line, f"{layer} reads {ref}, {how}", fix)
        for zone, at in each.zone_places.items():
            if layer != "bronze":
                what = f"{layer} reads the landing zone {zone.name} itself"
                yield Problem(at.path, at.line, what, fix)


def readable(layer: str) -> str:
    """What a layer should read, in words."""
    return " or ".join(READABLE[layer]) or "landing zones and outside sources"


def named_zones(specs: Iterable[PipelineSpec]) -> Collection[tuple[str, str]]:
    """The zones that pipelines read, as namespace and name."""
    return {(spec.table.namespace, zone.name) for spec in specs for zone in spec.zones}
