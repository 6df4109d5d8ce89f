"""Whatever a run dies of, and wherever: afterwards all is published completely or not at all.

RAT_CRASH_ROUNDS says how many rounds a keeper has, six kills each; before a release every table dies
at every step, in a plain run and in a full refresh (`make test-crash`).
"""

import os
from datetime import timedelta
from itertools import chain, islice

import pytest

from rat_resources import faults
from rat_resources.lake.embedded_refs import EmbeddedRefs
from rat_resources.lake.nessie_refs import NessieRefs
from tests.crash.scene import Scene, rounds
from tests.factories import Shop

ROUNDS = int(os.environ.get("RAT_CRASH_ROUNDS", "1"))
WHOLE = 2 * len(faults.STEPS) <= ROUNDS


@pytest.fixture(params=["embedded", "nessie"])
def scene(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A shop on either keeper of refs."""
    if request.param == "nessie":
        request.getfixturevalue("nessie")
        # Whoever is killed here sends nothing any more.
        monkeypatch.setattr(NessieRefs, "latest_merge", timedelta(seconds=1))
    shop: Shop = request.getfixturevalue("shop")
    return Scene.set_up(shop)


def steps_of(scene: Scene) -> list[str]:
    """The steps that a run comes to."""
    is_embedded = isinstance(scene.shop.whole.lake.refs, EmbeddedRefs)
    return [each for each in faults.STEPS if each != "dry_run" or not is_embedded]


def test_nothing_is_lost_or_doubled_wherever_runs_are_killed(scene: Scene) -> None:
    steps = steps_of(scene)
    # The most dangerous first.
    steps = [*steps[8:], *steps[:8]]

    plainly = rounds(steps, action="kill")
    anew = rounds(steps, action="kill", full_refresh=True)
    for harms in islice(chain(plainly, anew), ROUNDS):
        scene.play(harms)
    scene.finish()

    print(f"{scene.deaths} runs were killed, of {scene.files} files none was lost")  # noqa: T201


@pytest.mark.skipif(not WHOLE, reason="a part of the long version")
@pytest.mark.parametrize("action", ["drop", "error"])
def test_nothing_is_lost_or_doubled_wherever_servers_fail(
    scene: Scene, action: str
) -> None:
    for harms in rounds(steps_of(scene), action=action):
        scene.play(harms)
    scene.finish()
