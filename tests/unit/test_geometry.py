from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.geometry import Box, corner_boxes, reference_boxes


@given(st.integers(16, 9000), st.integers(16, 9000))
def test_corners_are_three_quarters_of_the_picture(width, height):
    for box in corner_boxes(width, height):
        assert (box.width, box.height) == (width // 4 * 3, height // 4 * 3)
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= height


def test_corners_come_row_by_row():
    assert corner_boxes(512, 800) == (
        Box(0, 0, 384, 600), Box(128, 0, 512, 600), Box(0, 200, 384, 800), Box(128, 200, 512, 800),
    )  # fmt: skip


def test_a_reference_begins_with_the_whole_picture():
    assert reference_boxes(100, 60) == (Box(0, 0, 100, 60), *corner_boxes(100, 60))


@pytest.mark.parametrize("size", [(15, 16), (16, 15), (0, 0)])
def test_a_picture_under_16_pixels_is_refused(size):
    with pytest.raises(ValueError, match="at least 16 x 16"):
        corner_boxes(*size)
