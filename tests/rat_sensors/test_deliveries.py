"""The deliveries sensor: what a tick sends."""

import dagster as dg
import pytest

from rat_resources.metadata import Metadata
from rat_sensors.deliveries import deliveries
from tests.rat_resources.alerts.receiver import receiving
from tests.rat_resources.alerts.told import define, happen


def test_a_tick_sends_what_happened(
    metadata: Metadata, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAT_ALERT_ALLOW_LOOPBACK", "1")
    monkeypatch.setenv("HOOK", "s3cr3t")
    context = dg.build_sensor_context(instance, resources={"metadata": metadata})

    with receiving() as receiver:
        with metadata.transaction() as tx:
            hook = {"url": receiver.url, "secret": "env:HOOK"}
            happen(tx, define(tx, {"webhook": hook}))
        ticks = [deliveries.evaluate_tick(context) for _ in range(2)]

    assert [tick.skip_message for tick in ticks] == [
        "1 routed, 1 delivered",
        "nothing was due",
    ]
    assert "RAT-Signature" in receiver.requests[0].headers
