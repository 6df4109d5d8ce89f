"""What a pipeline's spec asks of the lake when its result is written."""

from rat_resources.lake.partitioning import PartitionField
from rat_resources.lake.sorting import SortField
from rat_resources.lake.strategies import MergeStrategy, WriteConfig
from rat_resources.specs import PipelineSpec


def write_config(spec: PipelineSpec) -> WriteConfig:
    """How the table of *spec* is written."""
    config = spec.config
    return WriteConfig(
        merge_strategy=MergeStrategy(config.merge_strategy),
        unique_key=config.unique_key,
        watermark_column=config.watermark_column or None,
        partition_column=config.partition_column or None,
        partition_by=tuple(
            PartitionField(each.column, each.transform, each.width)
            for each in config.partition_by
        ),
        sort_by=tuple(
            SortField(each.column, each.descending) for each in config.sort_by
        ),
        file_size=config.target_file_size,
        scd_valid_from=config.scd_valid_from,
        scd_valid_to=config.scd_valid_to,
        scd_close_missing=config.scd_close_missing,
        on_empty=config.on_empty,
        on_schema_change=config.on_schema_change,
        write_mode=config.write_mode,
    )
