import os
import time
from datetime import timedelta
from pathlib import Path

import dagster as dg
from sqlalchemy import select

from rat_resources.landing import Zone
from rat_resources.metadata import Metadata
from rat_resources.metadata.automation import Wish
from rat_resources.store import LocalStore
from rat_sensors.landing import await_change, build_landing_sensor, folder_marks, rotate
from tests.rat_resources.rows import make_pipeline, make_trigger, make_zone, put


@dg.job
def nothing() -> None:
    """What the sensor would launch."""


landing_zones = build_landing_sensor(nothing, watch=timedelta(0))


def test_a_tick_notices_a_file_and_wishes_for_its_pipeline_once(
    metadata: Metadata, tmp_path: Path
) -> None:
    with metadata.transaction() as tx:
        pipeline_id = make_pipeline(tx)
        zone = make_zone(tx)
        make_trigger(tx, pipeline_id)
    os.utime(put(tmp_path, zone, "a.csv"), (1, 1))
    resources = {"metadata": metadata, "store": LocalStore(tmp_path)}

    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance=instance, resources=resources)
        first = landing_zones.evaluate_tick(context)
        second = landing_zones.evaluate_tick(context)

    assert [event.asset_key.path for event in first.asset_events] == [
        ["shop", "landing", "orders"]
    ]
    assert second.asset_events == []
    # The pipeline is of no release, so there is nothing to run.
    assert not first.run_requests
    with metadata.transaction() as tx:
        assert tx.scalars(select(Wish.label)).all() == ["trigger:lz_upload:shop/orders"]


def test_a_tick_goes_on_where_the_last_one_stopped(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        make_pipeline(tx)
        zones: list[Zone] = [make_zone(tx, name) for name in ("a", "b", "c")]

    rotated = rotate(zones, after="shop/a")

    assert [zone.name for zone in rotated] == ["b", "c", "a"]


def test_a_file_that_comes_while_a_tick_watches_ends_the_watch(
    metadata: Metadata, tmp_path: Path
) -> None:
    with metadata.transaction() as tx:
        make_pipeline(tx)
        zone = make_zone(tx)
    marks = folder_marks(metadata, root=tmp_path)
    glances = []

    def glance(seconds: float) -> None:
        glances.append(seconds)
        put(tmp_path, zone, "a.csv")

    changed = await_change(marks, until=time.monotonic() + 60, wait=glance)

    assert changed
    assert len(glances) == 1


def test_a_file_that_came_before_the_look_is_no_reason_to_watch_on(
    metadata: Metadata, tmp_path: Path
) -> None:
    with metadata.transaction() as tx:
        make_pipeline(tx)
        zone = make_zone(tx)
    put(tmp_path, zone, "a.csv")
    marks = folder_marks(metadata, root=tmp_path)
    glances: list[float] = []

    changed = await_change(marks, until=time.monotonic(), wait=glances.append)

    assert not changed
    assert glances == []


def test_without_zones_a_tick_is_over_at_once(
    metadata: Metadata, tmp_path: Path
) -> None:
    marks = folder_marks(metadata, root=tmp_path)

    changed = await_change(marks, until=time.monotonic() + 60)

    assert marks == {}
    assert not changed
