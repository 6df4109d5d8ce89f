"""What docs/alerts.md tells people to write can be published as it stands there."""

import re
from hashlib import sha256
from pathlib import Path

from rat_resources.alerts import definitions
from rat_resources.alerts.channel_documents import CHANNELS, GROUPS, OPTIONS
from rat_resources.alerts.condition_documents import CHANGES, FUNCTIONS, KINDS
from rat_resources.alerts.documents import READERS
from tests.factories import Shop

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "alerts.md").read_text()
EXAMPLE = re.compile(r"^```yaml\n# (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = dict(EXAMPLE.findall(PAGE))
CODE = "def odd(lake):\n    return lake.table.filter('id % 2 = 1')\n"


def test_every_example_of_the_page_can_be_published(open_shop: Shop) -> None:
    open_shop.write("shop/alerts/checks.py", CODE)
    digest = sha256(CODE.encode()).hexdigest()
    for name, content in EXAMPLES.items():
        pinned = re.sub(r"sha256: \S+", f"sha256: {digest}", content)
        open_shop.write(name, pinned)

    release = open_shop.publish()

    with open_shop.whole.metadata.transaction() as tx:
        found = definitions.load(tx)
    assert not release.warnings
    assert {each.kind for each in found} == set(KINDS)
    assert len(found) == len(EXAMPLES)
    assert {channel for each in found for channel in each.channels} == set(CHANNELS)


def test_the_page_names_every_field() -> None:
    fields = {name for kind in KINDS.values() for name in kind.readers}
    destinations = {name for readers, _ in CHANNELS.values() for name in readers}
    named = {*fields, *destinations, *READERS, *OPTIONS, *GROUPS, *CHANGES, *FUNCTIONS}

    assert [each for each in sorted(named - {"method"}) if each not in PAGE] == []
