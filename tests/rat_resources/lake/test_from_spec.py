"""The lake writes as the pipeline's author asked."""

from rat_resources.lake.from_spec import write_config
from rat_resources.lake.partitioning import PartitionField
from rat_resources.lake.strategies import MergeStrategy
from rat_resources.names import TableName
from rat_resources.specs import PipelineSource, parse_pipeline


def test_the_lake_is_told_how_to_write() -> None:
    code = (
        "-- @merge_strategy: incremental\n-- @unique_key: a, b\nSELECT 1 AS a, 2 AS b"
    )
    config = "partition_by: [{column: a, transform: bucket, width: 4}]\non_empty: keep"
    files = {"pipeline.sql": code, "config.yaml": config}
    parsed = parse_pipeline(PipelineSource(TableName("nyc", "silver", "x"), files))

    written = write_config(parsed.spec)

    assert written.merge_strategy is MergeStrategy.INCREMENTAL
    assert written.unique_key == ("a", "b")
    assert written.partition_column is None
    assert written.partition_by == (PartitionField("a", "bucket", 4),)
    assert written.on_empty == "keep"
