from __future__ import annotations

import pytest

from serving.errors import InvalidInput
from serving.fields import Fields


def test_every_wrong_field_is_told_at_once():
    fields = Fields()
    fields.text("", "name", max_bytes=5, required=True)
    fields.count(99, "k", default=3, minimum=1, maximum=64)
    fields.matches("A B", "id", pattern="[a-z]+", says="lower-case letters")
    fields.at_most([1, 2, 3], "tags", 2)
    with pytest.raises(InvalidInput) as caught:
        fields.done()
    assert [v.field for v in caught.value.violations] == ["name", "k", "id", "tags"]
    assert "must be 1 to 64, got 99" in caught.value.violations[1].description
    assert "and 3 more" in caught.value.message


def test_nothing_wrong_passes():
    fields = Fields()
    assert fields.text("ok", "name", max_bytes=5) == "ok"
    assert fields.count(0, "k", default=3, minimum=1, maximum=64) == 3
    assert fields.count(64, "k", default=3, minimum=1, maximum=64) == 64
    fields.done()


def test_a_pattern_must_match_as_a_whole():
    fields = Fields()
    fields.matches("abc\n", "id", pattern="[a-z]+", says="lower-case letters")
    with pytest.raises(InvalidInput):
        fields.done()


def test_lengths_count_bytes_of_utf8():
    fields = Fields()
    fields.text("äää", "name", max_bytes=5)
    with pytest.raises(InvalidInput, match="at most 5 bytes, got 6"):
        fields.done()
