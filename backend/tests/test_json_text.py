"""JSON is the same whichever library makes or reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mus.json_text import decoded, encoded, encoded_text

HALF_A_PAIR = "latin-\udce9.mp3"


@pytest.mark.parametrize(
    "value",
    [None, True, {"a": [1, 2.5, "é", None]}, [HALF_A_PAIR], {HALF_A_PAIR: 1}, 2**70, -(2**64), "\0", "日本\n"],
)
def test_what_is_encoded_is_decoded_as_it_was(value: Any) -> None:
    assert decoded(encoded(value)) == decoded(encoded_text(value)) == value


def test_what_older_versions_wrote_is_read() -> None:
    value = {"paths": ["é", HALF_A_PAIR], "1": 2**70}
    assert decoded(json.dumps(value)) == value


def test_keys_that_are_numbers_become_text() -> None:
    assert decoded(encoded({1: "a"})) == {"1": "a"}


def test_what_json_has_no_form_of_is_refused() -> None:
    with pytest.raises(TypeError):
        encoded({"a": object()})
    with pytest.raises(ValueError, match=r"JSON|Expecting"):
        decoded(b"{")
