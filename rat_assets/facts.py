"""Facts: everything that publishing a run will state, as JSON, before anything is merged.

They are written with the intent, so that anybody can finish a publication whose process died, and
a value that Postgres would refuse fails while main is still as it was. Stating them is
`rat_resources.publications`.
"""

import uuid
from operator import itemgetter
from typing import Any

from pyiceberg.table import Table

from rat_assets import rebuilding
from rat_assets.computation import Computation
from rat_assets.inputs import Inputs, pin
from rat_assets.trial import Trial
from rat_resources import graph, invalidations, landing, publications
from rat_resources.hashes import hash_of
from rat_resources.lake.committing import original_snapshot
from rat_resources.lake.from_spec import write_config
from rat_resources.lake.partitions import find_parts
from rat_resources.lake.reading import row_count
from rat_resources.lake.types import type_words
from rat_resources.lineage import Lineage
from rat_resources.platform import Platform
from rat_resources.specs import PipelineSpec
from rat_resources.versions import find_versions, known_partitions


def state(work: Computation, trial: Trial) -> dict[str, Any]:
    """Everything that publishing what was computed and tested will state."""
    platform, spec, changes = work.platform, work.spec, trial.changes
    # What a view once was as a table is no concern of its readers.
    table = None if spec.is_view else work.table
    told = describe_invalidations(work, table)
    # Who is told of an invalidation runs for it, once.
    is_news = not work.unchanged and not (told and told["emits"])
    wishes = next_wishes(platform, spec, run_id=work.run_id) if is_news else []
    return {
        "rows_written": work.written.rows_written if work.written else 0,
        "unchanged": work.unchanged,
        "changes": changes and changes.to_json(),
        "results": [result.to_row() for result in trial.results],
        "wishes": wishes,
        "invalidations": told,
        "archive": archived_zones(platform, spec),
        **describe_data(spec, table, inputs=work.inputs),
        "partitions": describe_partitions(work, table),
        "inputs": describe_inputs(work),
        "cursors": describe_cursors(work, table),
        "begins_anew": work.full_refresh and work.rebuild is None,
        "lineage": describe_lineage(work.lineage, is_news=work.lineage_is_news),
    }


def describe_invalidations(
    work: Computation, table: Table | None
) -> dict[str, Any] | None:
    """What the run did about invalidations, and what its readers have to know; None without any.

    The first rows of a table are news to its readers, and make none of theirs wrong.
    """
    is_first = work.own is None and not work.spec.is_view
    own = None if work.own is None else pin(work.name, work.own)
    before = invalidations.pin_json(own)
    return invalidations.describe(
        work.told,
        emits=None if work.unchanged or is_first else rebuilding.emitted(work),
        facts={
            "run": str(work.run_id),
            "snapshot_after": snapshot_of(table),
            **({"snapshot_before": before} if before else {}),
        },
    )


def describe_data(
    spec: PipelineSpec, table: Table | None, *, inputs: Inputs
) -> dict[str, Any]:
    """What readers will find: the table's rows, snapshot, version, files and columns."""
    rows = 0 if table is None else row_count(table)
    return {
        "rows_total": rows,
        "snapshot_id": snapshot_of(table),
        "data_version": data_version(spec, table, inputs=inputs),
        "table": None if table is None else describe_table(spec, table, rows=rows),
        "columns": [] if table is None else describe_columns(table),
    }


def snapshot_of(table: Table | None) -> int | None:
    """The snapshot that *table* shows."""
    snapshot = table.current_snapshot() if table is not None else None
    return snapshot.snapshot_id if snapshot else None


def data_version(spec: PipelineSpec, table: Table | None, *, inputs: Inputs) -> str:
    """What tells this data from any other: the snapshot, or for a view its code and inputs."""
    if spec.is_view:
        return publications.view_version(spec, inputs.snapshots)
    # Rows that maintenance wrote to other files are the same data.
    return str(original_snapshot(table.metadata) if table is not None else None)


def describe_table(spec: PipelineSpec, table: Table, *, rows: int) -> dict[str, Any]:
    """The table as `rat.iceberg_tables` keeps it."""
    snapshot = table.current_snapshot()
    summary = snapshot.summary if snapshot else None
    return {
        "namespace": spec.table.namespace,
        "layer": spec.table.layer,
        "name": spec.table.name,
        "row_count": rows,
        "size_bytes": int((summary and summary["total-files-size"]) or 0),
        "snapshot_id": snapshot_of(table),
        "metadata_location": table.metadata_location,
    }


def describe_columns(table: Table) -> list[dict[str, Any]]:
    """The columns as `rat.iceberg_columns` keeps them."""
    return [
        {
            "name": column.name,
            "type": type_words(column.field_type),
            "nullable": not column.required,
            "ordinal": position,
        }
        for position, column in enumerate(table.schema().fields, start=1)
    ]


def describe_partitions(
    work: Computation, table: Table | None
) -> dict[str, Any] | None:
    """The partitions that were written and those that are gone; None where the table is as it was."""
    if table is None or work.unchanged or work.written is None:
        return None
    parts = find_parts(
        work.connection,
        table,
        before=work.own,
        config=write_config(work.spec),
        is_anew=work.written.is_anew,
    )
    with work.platform.metadata.transaction() as tx:
        known = frozenset() if parts.is_whole else known_partitions(tx, work.name)
    # What Postgres does not know yet is news to it, whoever wrote it.
    made = sorted((parts.touched & parts.sizes.keys()) | (parts.sizes.keys() - known))
    return {
        "is_whole": parts.is_whole,
        "made": [[key, parts.sizes[key].rows, parts.sizes[key].bytes] for key in made],
        "gone": sorted(known - parts.sizes.keys()),
        "schema_hash": schema_hash(table),
        "location": table.metadata_location,
    }


def schema_hash(table: Table) -> str:
    """What tells the columns of *table* from any others, whatever their order."""
    columns = [
        {key: column[key] for key in ("name", "nullable", "type")}
        for column in describe_columns(table)
    ]
    return hash_of(sorted(columns, key=itemgetter("name")))


def describe_inputs(work: Computation) -> dict[str, dict[str, str]]:
    """Which versions of which partitions were read."""
    untold = [pin for pin in work.inputs.pins if pin.table not in work.read_versions]
    if untold:
        # Their own publications may have been stated meanwhile.
        with work.platform.metadata.transaction() as tx:
            work.read_versions |= find_versions(tx, untold)
    return {
        str(table): {key: at.isoformat() for key, at in sorted(versions.items())}
        for table, versions in sorted(work.read_versions.items())
    }


def describe_cursors(work: Computation, table: Table | None) -> list[list[str]]:
    """How far the tables below were read: the greatest value that the table's own mark has."""
    mark = work.config.watermark_column
    if table is None or work.unchanged or mark not in table.schema().column_names:
        return []
    greatest = work.greatest(mark)
    if greatest is None:
        return []
    found = work.lineage.sources.get(mark, ()) if work.lineage else ()
    below = {str(each) for each in work.inputs.tables} - {str(work.name)}
    read = [[each.dataset, each.column] for each in found if each.dataset in below]
    return [[*each, greatest] for each in read or [[str(work.name), mark]]]


def describe_lineage(found: Lineage | None, *, is_news: bool) -> dict[str, Any] | None:
    """Where the columns come from; None where what stands in Postgres stays."""
    return found.facts if found is not None and is_news else None


def archived_zones(platform: Platform, spec: PipelineSpec) -> list[dict[str, Any]]:
    """The zones whose committed files go to _processed/, and who must have committed them."""
    namespace, zones = spec.table.namespace, []
    with platform.metadata.transaction() as tx:
        for mention in spec.zones:
            zone = landing.get_zone(tx, namespace, name=mention.name)
            if zone and (zone.archive or spec.config.archive_landing_zones):
                readers = graph.readers(tx, namespace, zone=mention.name)
                zones.append({"zone": zone.name, "readers": list(map(str, readers))})
    return zones


def next_wishes(
    platform: Platform, spec: PipelineSpec, *, run_id: uuid.UUID
) -> list[dict[str, Any]]:
    """The runs that a publication asks for: of every pipeline that follows its table."""
    with platform.metadata.transaction() as tx:
        followers = graph.followers(tx, spec.table)
    return [
        {
            "pipeline_id": str(pipeline_id),
            "label": "auto",
            "reason": f"{spec.table} published by {run_id}",
        }
        for pipeline_id in followers.values()
    ]
