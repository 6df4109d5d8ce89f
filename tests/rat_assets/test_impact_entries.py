"""Impact on an asset: who reads the table, in a few lines."""

from rat_assets.impact_entries import SHOWN, describe_impact
from rat_resources.impact import Figures
from rat_resources.names import TableName
from rat_resources.specs import PipelineSource, parse_pipeline


def test_a_table_shows_its_readers_with_rows_and_times() -> None:
    specs = [
        parse_pipeline(
            PipelineSource(
                TableName("s", "silver", f"t{number}"),
                {"pipeline.sql": f"-- @owner: team:a\nFROM {reads}"},
            )
        ).spec
        for number, reads in enumerate(
            ["x", *["{{ ref('silver.t0') }}"] * SHOWN, "{{ ref('silver.t1') }}"]
        )
    ]
    figures = {"s.silver.t1": Figures(1200, 1500, 2), "s.silver.t9": Figures(1, 40, 1)}

    found = describe_impact(specs, figures)

    assert {table.name for table in found} == {"t0", "t1"}
    lines = found[TableName("s", "silver", "t0")]["impact"].value.splitlines()
    assert lines[0] == (
        "**9 tables** (8 directly), 1,201 rows, 1.5 s to rebuild; owners: team:a"
    )
    assert "- s.silver.t1: 1,200 rows, 1.5 s, team:a" in lines
    assert lines[-1] == "- … and 1 more"
