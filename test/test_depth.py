"""The distance of a target, whatever else is in its box."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sot_ros.depth import distance_in_box
from sot_ros.geometry import Box

HOLES = [0.0, np.nan, np.inf, -np.inf, -1.0]
BOX = Box(60.3, 40.8, 81.4, 59.5)


def scene(background: float = 9.0) -> np.ndarray:
    return np.full((150, 200), background)


def put(depth: np.ndarray, box: Box, value) -> None:
    x, y, w, h = (round(side) for side in box)
    depth[y : y + h, x : x + w] = value


@given(distance=st.floats(0.05, 60), background=st.floats(1.2, 50), seed=st.integers(0, 1000))
@settings(deadline=None)
def test_a_flat_target_is_measured_exactly_over_half_a_box_of_background_and_a_third_of_holes(
    distance, background, seed
):
    depth = scene(distance * background)
    put(depth, BOX._replace(w=BOX.w / 2), distance)  # the left half of the box is the target
    random = np.random.default_rng(seed)
    holes = random.random(depth.shape) < 0.3
    depth[holes] = random.choice(HOLES, holes.sum())
    assert distance_in_box(depth, BOX) == pytest.approx(distance, rel=1e-12)


def test_a_target_in_front_is_not_missed_because_the_background_is_larger():
    depth = scene(9.0)
    put(depth, Box.from_center(*BOX.center, 0.3 * BOX.w, 0.3 * BOX.h), 2.0)  # a third of the middle's area
    assert distance_in_box(depth, BOX) == 2.0


def test_a_few_nearer_pixels_are_not_the_target():
    depth = scene(9.0)
    put(depth, BOX, 4.0)
    depth[60:62] = 0.7  # a wire
    assert distance_in_box(depth, BOX) == 4.0


def test_a_rounded_target_has_its_median_distance():
    depth = scene(9.0)
    columns = np.arange(200)
    depth[:, 50:150] = (3.0 + 0.0001 * (columns - 101.0) ** 2)[50:150]
    assert distance_in_box(depth, BOX) == pytest.approx(3.01, abs=0.02)


def test_of_a_slanted_target_all_counts_though_pixels_at_its_edges_are_nearer():
    depth = scene(9.0)
    left, right = round(BOX.center[0] - BOX.w / 4), round(BOX.center[0] + BOX.w / 4)
    depth[:, left:right] = np.linspace(3.0, 3.3, right - left)
    depth[70] = 2.8
    assert distance_in_box(depth, BOX) == pytest.approx(3.15, abs=0.02)


def test_noise_is_averaged_out():
    depth = scene(9.0)
    random = np.random.default_rng(0)
    put(depth, BOX, 0)
    depth += np.where(depth == 0, 5.0, 0) + random.normal(0, 0.05, depth.shape)
    assert distance_in_box(depth, BOX) == pytest.approx(5.0, abs=0.02)


@pytest.mark.parametrize("hole", HOLES)
def test_a_box_of_holes_has_no_distance(hole):
    depth = scene(3.0)
    put(depth, BOX, hole)
    assert distance_in_box(depth, BOX) is None


@settings(deadline=None)
@given(st.floats(-500, 500), st.floats(-500, 500), st.floats(0.01, 900), st.floats(0.01, 900))
def test_every_box_has_the_distance_of_a_wall_or_none(x, y, w, h):
    box = Box(x, y, w, h)
    cx, cy = box.center
    expected = 7.5 if 0 <= cx < 200 and 0 <= cy < 150 else None
    assert distance_in_box(scene(7.5), box) in (7.5, expected)


def test_millimetres_stay_whole_numbers():
    depth = scene(9.0).astype(np.uint16)
    put(depth, BOX, 1234)
    assert distance_in_box(depth, BOX) == 1234
