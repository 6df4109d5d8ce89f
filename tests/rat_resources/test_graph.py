"""The order of pipelines: after what they read, and after what their tests read."""

import pytest

from rat_resources.graph import in_order_of_tests
from rat_resources.names import TableName


def table(name: str) -> TableName:
    return TableName("shop", "bronze", name)


def arrows(words: str) -> dict[TableName, set[TableName]]:
    """The arrows of `a>b a>c b`: who reads whom."""
    found: dict[TableName, set[TableName]] = {}
    for word in words.split():
        reader, _, read = word.partition(">")
        found.setdefault(table(reader), set()).update([table(read)] if read else [])
    return found


@pytest.mark.parametrize(
    ("reads", "tested", "said"),
    [
        ("a>c b c", "", "c<a"),
        ("a b c", "a>c", "c<a"),
        ("a>b b c", "b>c", "c<b b<a"),
        ("a b", "a>elsewhere", ""),
        # What reads a table comes after it, whatever its tests read.
        ("a b>a", "a>b", "a<b"),
        ("a b>a c>b", "a>c", "a<b b<c"),
        ("a b", "a>b b>a", ""),
        ("a b c d>a", "a>d a>c b>a", "c<a a<d a<b"),
    ],
)
def test_a_table_comes_after_what_its_tests_read_unless_that_reads_it(
    reads: str, tested: str, said: str
) -> None:
    found = in_order_of_tests(arrows(reads), tested=arrows(tested))

    assert sorted(found) == sorted(arrows(reads))
    for pair in said.split():
        first, second = map(table, pair.split("<"))
        assert found.index(first) < found.index(second)
