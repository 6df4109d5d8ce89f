"""The one character that Postgres does not keep."""

import json

import pytest

from rat_resources.metadata.zeros import as_json, as_text


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("a\0b", "a␀b"),
        (["\0", {"\0": 1}], ["␀", {"␀": 1}]),
        ("\\\0", "\\␀"),
        # The text of an escape is no zero.
        ("\\u0000", "\\u0000"),
        ({"a": 1, "b": None}, {"a": 1, "b": None}),
    ],
)
def test_documents_hold_a_sign_in_place_of_zeros(value: object, kept: object) -> None:
    assert json.loads(as_json(value)) == kept


def test_texts_hold_a_sign_in_place_of_zeros() -> None:
    assert as_text("a\0b") == "a␀b"
