"""Whether a file is marked or written anew follows from what was measured of it."""

import pytest

from rat_resources.lake.choosing import SMALL, Fate, Wounded, WriteMode, choose


def wounded(
    dying: int, *, dead: int = 0, size: int = SMALL + 1, is_placed: bool = True
) -> Wounded:
    return Wounded(100, size, dying=dying, dead=dead, is_placed=is_placed)


@pytest.mark.parametrize(
    ("file", "mode", "fate"),
    [
        (wounded(1), "auto", Fate.MARKED),
        (wounded(49), "auto", Fate.MARKED),
        (wounded(50), "auto", Fate.REWRITTEN),
        (wounded(10, dead=40), "auto", Fate.REWRITTEN),
        (wounded(60, dead=40), "auto", Fate.REMOVED),
        (wounded(1, size=SMALL), "auto", Fate.REWRITTEN),
        (wounded(1, is_placed=False), "auto", Fate.REWRITTEN),
        (wounded(1, is_placed=False), "merge_on_read", Fate.REWRITTEN),
        (wounded(99, size=1), "merge_on_read", Fate.MARKED),
        (wounded(100), "merge_on_read", Fate.REMOVED),
        (wounded(1), "copy_on_write", Fate.REWRITTEN),
        (wounded(100), "copy_on_write", Fate.REMOVED),
    ],
)
def test_a_file_gets_the_cheaper_fate(
    file: Wounded, mode: WriteMode, fate: Fate
) -> None:
    assert choose({7: file}, mode=mode) == {7: fate}


def test_small_files_are_written_anew_as_long_as_they_are_small_together() -> None:
    files = {n: wounded(1, size=SMALL // 2) for n in range(3)}

    fates = list(choose(files, mode="auto").values())

    assert fates.count(Fate.REWRITTEN) == 2
    assert fates.count(Fate.MARKED) == 1
