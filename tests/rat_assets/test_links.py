"""Links: the graph opens on layers, not on one box a namespace."""

from rat_assets.commands.links import graph_path
from rat_resources.metadata import Metadata
from tests.rat_resources.rows import make_pipeline


def test_the_graph_opens_every_namespace(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        before = graph_path(tx)
        make_pipeline(tx)
        after = graph_path(tx)

    assert before == "/asset-groups"
    assert after == "/asset-groups?expanded=global@global:shop"
