"""Boxes: overlap, clipping, and what a tracker may start from."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sot_ros.geometry import Box, check_box, clip, iou

coordinate = st.floats(-500, 500)
length = st.floats(1, 400)
boxes = st.builds(Box, coordinate, coordinate, length, length)


@given(boxes)
def test_a_box_is_rebuilt_from_its_center(box):
    assert Box.from_center(*box.center, box.w, box.h) == pytest.approx(box)


def test_a_box_is_scaled_with_its_image():
    assert Box(10, 20, 30, 40).scaled(2, 0.5) == Box(20, 10, 60, 20)


@given(boxes, boxes)
def test_iou_is_symmetric_and_between_0_and_1(a, b):
    assert iou(a, b) == pytest.approx(iou(b, a))
    assert 0 <= iou(a, b) <= 1 + 1e-9


@given(boxes)
def test_iou_of_a_box_with_itself_is_1(box):
    assert iou(box, box) == pytest.approx(1)


def test_iou_of_known_boxes():
    assert iou(Box(0, 0, 10, 10), Box(5, 0, 10, 10)) == pytest.approx(50 / 150)
    assert iou(Box(0, 0, 10, 10), Box(10, 0, 10, 10)) == 0
    assert iou(Box(3, 3, 0, 0), Box(3, 3, 0, 0)) == 0


@given(boxes, st.integers(40, 640), st.integers(40, 480))
def test_a_clipped_box_lies_in_the_image_and_keeps_its_least_size(box, width, height):
    x, y, w, h = clip(box, width, height)
    assert 0 <= x <= width - 10 and 0 <= y <= height - 10
    assert w >= 10 and h >= 10
    assert x + w <= width + 1e-9 and y + h <= height + 1e-9


@given(st.floats(0, 100), st.floats(0, 100), st.floats(10, 100), st.floats(10, 100))
def test_a_box_within_the_image_is_not_changed_by_clipping(x, y, w, h):
    assert clip(Box(x, y, w, h), 200, 200) == pytest.approx(Box(x, y, w, h))


@given(boxes)
def test_every_box_that_overlaps_the_image_is_accepted(box):
    assume(box.x < 639 and box.y < 479 and box.x + box.w > 1 and box.y + box.h > 1)
    assert check_box(tuple(box), 640, 480) == box


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((math.nan, 1, 10, 10), "finite"),
        ((1, math.inf, 10, 10), "finite"),
        ((1, 1, 0, 10), "above 0"),
        ((1, 1, 10, -3), "above 0"),
        ((640, 1, 10, 10), "outside the 640x480 image"),
        ((-10, 1, 10, 10), "outside the 640x480 image"),
        ((1, 2, 3), "four numbers"),
        (("a", 1, 2, 3), "four numbers"),
        (None, "four numbers"),
    ],
)
def test_other_boxes_are_refused_with_the_reason(box, reason):
    with pytest.raises(ValueError, match=reason) as refusal:
        check_box(box, 640, 480)
    assert "\n" not in str(refusal.value)
