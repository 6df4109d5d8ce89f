import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from rat_resources import landing, triggers, wishes
from rat_resources.landing import Zone
from rat_resources.metadata import Metadata
from rat_resources.metadata.automation import Wish
from rat_resources.triggers import Fired
from tests.rat_resources.rows import (
    make_pipeline,
    make_run,
    make_trigger,
    make_zone,
    put,
)

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def land(
    tx: Session, zone: Zone, root: Path, name: str, *, now: datetime = NOON
) -> list[Fired]:
    put(root, zone, name)
    landing.look(tx, zone, root=root, now=NOON)
    return triggers.fire_uploads(tx, zone, now=now)


def run(tx: Session, pipeline_id: uuid.UUID) -> None:
    run_id = make_run(tx, pipeline_id)
    wishes.take(tx, pipeline_id, run_id=run_id, dagster_run_id=None)
    landing.claim(
        tx,
        namespace="shop",
        zones={"orders": True},
        pipeline_id=pipeline_id,
        version_id=None,
        run_id=run_id,
    )
    landing.commit(tx, run_id)
    wishes.finish(tx, run_id)


def test_a_file_fires_every_trigger_of_its_zone_once(
    metadata: Metadata, tmp_path: Path
) -> None:
    with metadata.transaction() as tx:
        zone_owner = make_pipeline(tx)
        zone = make_zone(tx)
        make_trigger(tx, zone_owner)
        make_trigger(tx, make_pipeline(tx, "two"))

        fired = land(tx, zone, tmp_path, "a.csv")
        again = triggers.fire_uploads(tx, zone, now=NOON)

    assert [one.label for one in fired] == ["trigger:lz_upload:shop/orders"] * 2
    assert again == []


def test_only_files_of_the_pattern_fire_its_trigger(
    metadata: Metadata, tmp_path: Path
) -> None:
    with metadata.transaction() as tx:
        pipeline_id = make_pipeline(tx)
        zone = make_zone(tx)
        make_trigger(tx, pipeline_id, pattern="orders_*.csv")

        other = land(tx, zone, tmp_path, "people.csv")
        (one,) = land(tx, zone, tmp_path, "sub/orders_1.csv")

    assert other == []
    assert one.label == "trigger:file_pattern:shop/orders:orders_*.csv"


def test_events_of_a_cooldown_fire_together_when_it_ends(
    metadata: Metadata, tmp_path: Path
) -> None:
    with metadata.transaction() as tx:
        pipeline_id = make_pipeline(tx)
        zone = make_zone(tx)
        make_trigger(tx, pipeline_id, cooldown=600)
        land(tx, zone, tmp_path, "a.csv")
        run(tx, pipeline_id)

        soon = NOON + timedelta(minutes=1)
        (second,) = land(tx, zone, tmp_path, "b.csv", now=soon)
        third = land(tx, zone, tmp_path, "c.csv", now=soon)

    assert second.due_at == NOON + timedelta(minutes=10)
    assert third == []


def test_what_a_run_did_not_see_is_wished_for_after_it(
    metadata: Metadata, tmp_path: Path
) -> None:
    with metadata.transaction() as tx:
        pipeline_id = make_pipeline(tx)
        zone = make_zone(tx)
        make_trigger(tx, pipeline_id)
        land(tx, zone, tmp_path, "a.csv")
        # Collapsed into the wish that waits, which a run then takes without seeing the file.
        put(tmp_path, zone, "b.csv")
        run(tx, pipeline_id)
        landing.look(tx, zone, root=tmp_path, now=NOON)

        fired = triggers.fire_uploads(tx, zone, now=NOON)
        run(tx, pipeline_id)
        after = triggers.fire_uploads(tx, zone, now=NOON)

    assert len(fired) == 1
    assert after == []


def test_a_file_that_waits_for_somebody_fires_nothing(
    metadata: Metadata, tmp_path: Path
) -> None:
    with metadata.transaction() as tx:
        pipeline_id = make_pipeline(tx)
        zone = make_zone(tx)
        trigger = make_trigger(tx, pipeline_id)
        land(tx, zone, tmp_path, "bad.csv")
        run_id = make_run(tx, pipeline_id)
        wishes.take(tx, pipeline_id, run_id=run_id, dagster_run_id=None)
        landing.claim(
            tx,
            namespace="shop",
            zones={"orders": True},
            pipeline_id=pipeline_id,
            version_id=None,
            run_id=run_id,
        )
        landing.release(tx, run_id, failed="bad")
        wishes.finish(tx, run_id)

        fired = triggers.fire_uploads(tx, zone, now=NOON)
        tx.refresh(trigger)
        last = trigger.last_run_id
        count = len(tx.scalars(select(Wish)).all())

    assert fired == []
    assert count == 1
    assert last == run_id
