"""What a box holds is followed through a clip as it moves and grows, and no further than it can be told."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sot_ros.geometry import Box, iou
from sot_ros.training.follow import follow

SIZE = 240


def texture(seed: int, side: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (side // 10, side // 10, 3), dtype=np.uint8)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)


BACKGROUND, OBJECT = texture(0, SIZE), texture(1, 120)


def frame(box: Box) -> np.ndarray:
    """The object's texture in `box` before a background that stays."""
    image = BACKGROUND.copy()
    matrix = np.float64([[box.w / 120, 0, box.x], [0, box.h / 120, box.y]])
    matrix[:, 2] += matrix[:, :2].sum(1) * 0.5 - 0.5
    inside = cv2.warpAffine(np.full((120, 120), 255, np.uint8), matrix, (SIZE, SIZE)) > 127
    image[inside] = cv2.warpAffine(OBJECT, matrix, (SIZE, SIZE))[inside]
    return image


@settings(max_examples=20, deadline=None)
@given(
    st.floats(-3, 3),
    st.floats(-3, 3),
    st.floats(0.98, 1.02),
    st.floats(0.98, 1.02),
)
def test_a_box_moves_and_stretches_with_what_it_holds(dx, dy, wider, higher):
    boxes = [Box.from_center(120 + dx * t, 120 + dy * t, 80 * wider**t, 90 * higher**t) for t in range(10)]
    found = follow((frame(box) for box in boxes), boxes[0])
    assert found[0] == boxes[0] and len(found) == len(boxes)
    assert min(iou(a, b) for a, b in zip(found, boxes, strict=True)) > 0.93


def test_a_part_of_an_object_stays_the_same_part():
    boxes = [Box.from_center(80 + 5 * t, 120, 80 * 1.03**t, 90 * 1.03**t) for t in range(10)]
    parts = [Box(b.x + 0.2 * b.w, b.y + 0.1 * b.h, 0.6 * b.w, 0.5 * b.h) for b in boxes]
    found = follow((frame(box) for box in boxes), parts[0])
    assert iou(found[-1], parts[-1]) > 0.9


def test_it_ends_where_what_the_box_holds_is_covered():
    box = Box(80, 80, 80, 90)
    images = [frame(box)] * 4 + [BACKGROUND] * 4
    assert len(follow(images, box)) == 4


def test_it_ends_at_the_border_of_the_image():
    boxes = [Box(100 + 8 * t, 80, 80, 90) for t in range(10)]
    found = follow((frame(box) for box in boxes), boxes[0])
    assert len(found) == 8 and found[-1].x + found[-1].w <= SIZE


@pytest.mark.parametrize("box", [Box(50, 50, 60, 60), Box(-5, 20, 40, 40), Box(50, 50, 0.5, 30)])
def test_what_shows_nothing_or_lies_outside_is_not_followed(box):
    assert len(follow([np.full((SIZE, SIZE, 3), 90, np.uint8)] * 3, box)) <= 1
