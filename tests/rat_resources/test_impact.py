"""Impact: how far a column reaches, and what is known of everything that it reaches."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from sqlalchemy import text

from rat_resources import impact
from rat_resources.errors import NotFoundError
from rat_resources.impact import Node, Reader, spread
from rat_resources.names import ColumnName, TableName
from rat_resources.specs import PipelineSource, parse_pipeline
from tests.factories import Shop


def node(name: str, *refs: str, **known: Any) -> Node:  # noqa: ANN401 - the fields of Node
    """A pipeline that reads *refs*; it has the columns a, b and c, and nothing decides its rows."""
    table = TableName.parse(f"s.silver.{name}")
    reads = " ".join(f"{{{{ ref('silver.{ref}') }}}}" for ref in refs)
    spec = parse_pipeline(PipelineSource(table, {"pipeline.sql": reads})).spec
    said = {"columns": ("a", "b", "c"), "deciding": frozenset()} | known
    return Node(str(table), spec, **said)


def arrows(**edges: Sequence[str]) -> Mapping[tuple[str, str], dict[str, list[str]]]:
    """Edges, as `y=["x.a>b"]`: b of y takes values from a of x."""
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for output, said in edges.items():
        for each in said:
            source, _, into = each.partition(">")
            table, _, column = source.partition(".")
            key = (f"s.silver.{output}", f"s.silver.{table}")
            found.setdefault(key, {}).setdefault(column, []).append(into)
    return found


def deciding(name: str, column: str) -> frozenset[ColumnName]:
    """One column that decides."""
    return frozenset([ColumnName(f"s.silver.{name}", column)])


def shown(readers: Sequence[Reader]) -> dict[str, str]:
    """How each reader is reached."""
    return {
        each.node.spec.table.name: " ".join([each.why.value, *each.columns])
        for each in readers
    }


def reach(nodes: Sequence[Node], column: str | None, **edges: Sequence[str]) -> Any:  # noqa: ANN401
    """What x, or a column of it, reaches."""
    found = spread(nodes, arrows(**edges), dataset="s.silver.x", column=column)
    return shown(found)


def test_a_column_reaches_what_takes_values_from_it_through_every_table() -> None:
    nodes = [node("y", "x"), node("z", "y")]

    found = reach(nodes, "a", y=["x.a>a", "x.b>b"], z=["y.a>c", "y.b>b"])

    assert found == {"y": "columns a", "z": "columns c"}


def test_a_column_that_nobody_takes_reaches_nothing() -> None:
    assert reach([node("y", "x")], "c", y=["x.a>a"]) == {}


def test_a_condition_makes_all_of_a_table_and_of_its_readers_depend_on_it() -> None:
    nodes = [node("y", "x", deciding=deciding("x", "c")), node("z", "y")]

    found = reach(nodes, "c", y=["x.a>a"], z=["y.a>b"])

    assert found == {"y": "rows", "z": "table b"}


def test_what_nobody_could_trace_counts_as_reading_all() -> None:
    nodes = [node("y", "x", deciding=None), node("z", "y")]

    assert reach(nodes, "c") == {"y": "untold", "z": "table"}


def test_a_column_of_unknown_sources_may_come_from_any() -> None:
    found = reach([node("y", "x", untold=frozenset("b"))], "c", y=["x.a>a"])

    assert found == {"y": "columns b"}


def test_a_table_that_reads_itself_hands_its_columns_on() -> None:
    nodes = [node("y", "x"), node("z", "y")]

    found = reach(nodes, "a", y=["x.a>a", "y.a>b"], z=["y.b>c"])

    assert found == {"y": "columns a", "z": "columns c"}


@pytest.mark.usefixtures("open_shop")
def test_a_table_reaches_all_that_reads_it_with_rows_and_times(open_shop: Shop) -> None:
    with open_shop.whole.metadata.transaction() as tx:
        found = impact.find(tx, "shop.landing.orders")
        column = impact.find(tx, "shop.silver.orders.AMOUNT")

    assert (
        shown(found.readers)
        == {
            "orders": "table id customer amount loaded_at",
            "revenue": "table customer revenue orders",
        }
        or len(found.readers) == 3
    )
    assert found.unknown == []
    ms, path = found.longest_path
    assert path == ("shop.bronze.orders", "shop.silver.orders", "shop.gold.revenue")
    assert ms == found.rebuild_ms > 0
    assert column.name == "shop.silver.orders.amount"
    assert shown(column.readers) == {"revenue": "columns revenue"}
    assert column.total_rows == 2


def test_what_was_published_anew_and_has_not_run_is_not_traced(open_shop: Shop) -> None:
    changed = "SELECT id FROM {{ ref('silver.orders') }}"
    open_shop.publish({"shop/pipelines/gold/revenue/pipeline.sql": changed})

    with open_shop.whole.metadata.transaction() as tx:
        found = impact.find(tx, "shop.silver.orders.id")

    assert shown(found.readers) == {"revenue": "untold"}


def test_a_misspelt_name_is_met_with_the_nearest(open_shop: Shop) -> None:
    with open_shop.whole.metadata.transaction() as tx:
        with pytest.raises(NotFoundError, match=r"did you mean shop\.silver\.orders"):
            impact.find(tx, "shop.silver.order")
        with pytest.raises(NotFoundError, match="did you mean amount"):
            impact.find(tx, "shop.silver.orders.amout")


def test_only_runs_that_made_all_of_a_table_tell_how_long_that_takes(
    open_shop: Shop,
) -> None:
    # Silver's only run is made one that changed a part.
    with open_shop.whole.metadata.transaction() as tx:
        tx.execute(
            text("""
                UPDATE rat.runs SET rows_written = 1 WHERE pipeline_id IN
                    (SELECT id FROM rat.pipelines WHERE layer = 'silver')
            """)
        )
        found = impact.find(tx, "shop.bronze.orders")

    assert found.unknown == ["shop.silver.orders"]
