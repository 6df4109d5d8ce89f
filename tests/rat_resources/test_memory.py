"""Memory: what a step may take, as it is written and as the machine has it."""

from pathlib import Path

import pytest

from rat_resources import memory
from rat_resources.errors import SettingsError
from rat_resources.memory import Budget, available, read_budget


@pytest.mark.parametrize(
    ("written", "amount"),
    [
        ("4GB", 4_000_000_000),
        ("512MB", 512_000_000),
        ("1.5 gib", 1_610_612_736),
        ("2GiB", 2_147_483_648),
    ],
)
def test_an_amount_is_read_in_the_units_that_people_write(
    written: str, amount: int
) -> None:
    budget = read_budget({"RAT_MEMORY_LIMIT": written})

    assert budget == Budget(amount)


def test_without_a_word_it_is_half_of_what_there_is() -> None:
    assert read_budget({}) == Budget(available() // 2)


def test_a_share_is_one_of_what_there_is() -> None:
    quarter = read_budget({"RAT_MEMORY_LIMIT": "25%"})

    assert quarter == Budget(available() // 4)


@pytest.mark.parametrize("written", ["much", "4", "-1GB", "120%", "10MB", "0%"])
def test_what_is_no_amount_is_refused_by_name(written: str) -> None:
    with pytest.raises(SettingsError, match=f"RAT_MEMORY_LIMIT={written}"):
        read_budget({"RAT_MEMORY_LIMIT": written})


def test_a_container_has_no_more_than_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text("734003200\n")
    endless = tmp_path / "limit_in_bytes"
    endless.write_text("max\n")
    monkeypatch.setattr(memory, "LIMITS", (str(limit), str(endless), "/nowhere"))

    assert available() == 734_003_200


def test_duckdb_and_arrow_share_the_budget() -> None:
    small, large = Budget(800_000_000), Budget(16_000_000_000)

    assert (small.arrow, small.duckdb) == (100_000_000, 700_000_000)
    assert large.arrow == 256 * 1024 * 1024
    assert large.arrow + large.duckdb == large.total
